//! Lanes and rounds, with random tasks.

use std::{cell::RefCell, rc::Rc, time::Duration};

use proptest::{collection::vec, prelude::*, test_runner::Config};
use selkie::{Priority, Task, sleep, testing::Sim, yield_now};

/// A lane, and how often the task yields.
type Plan = (usize, usize);

const LANES: [Priority; 3] = [Priority::Urgent, Priority::Normal, Priority::Background];

/// Runs the tasks and returns their numbers in the order of their polls.
fn polls(plans: &[Plan]) -> Vec<usize> {
    let log: Rc<RefCell<Vec<usize>>> = Rc::default();
    let (inner, plans) = (log.clone(), plans.to_vec());
    Sim::new().run(async move {
        for (number, (lane, yields)) in plans.into_iter().enumerate() {
            let log = inner.clone();
            let body = async move {
                for _ in 0..yields {
                    log.borrow_mut().push(number);
                    yield_now().await;
                }
                log.borrow_mut().push(number);
            };
            Task::builder().priority(LANES[lane]).lazy().spawn(body).detach();
        }
        sleep(Duration::from_secs(1)).await;
    });
    log.take()
}

/// What one lane alone would do: a queue in which a task that yields goes to the back.
fn queue(plans: &[Plan], lane: usize) -> Vec<usize> {
    let mut queue: std::collections::VecDeque<_> = plans
        .iter()
        .enumerate()
        .filter(|(_, plan)| plan.0 == lane)
        .map(|(number, plan)| (number, plan.1))
        .collect();
    let mut order = Vec::new();
    while let Some((number, left)) = queue.pop_front() {
        order.push(number);
        if left > 0 {
            queue.push_back((number, left - 1));
        }
    }
    order
}

fn config() -> Config {
    Config { failure_persistence: None, ..Config::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_lane_is_a_queue_whatever_the_others_do(plans in vec((0..3usize, 0..12usize), 0..60)) {
        let polls = polls(&plans);
        for lane in 0..3 {
            let of_lane: Vec<_> = polls.iter().copied().filter(|&number| plans[number].0 == lane).collect();
            prop_assert_eq!(of_lane, queue(&plans, lane));
        }
    }

    #[test]
    fn background_tasks_get_every_sixteenth_poll(plans in vec((0..3usize, 0..30usize), 1..60)) {
        let polls = polls(&plans);
        let last = polls.iter().rposition(|&number| plans[number].0 == 2).unwrap_or(0);
        let mut others = 0;
        for &number in &polls[..last] {
            others = if plans[number].0 == 2 { 0 } else { others + 1 };
            prop_assert!(others <= 15, "background work starves");
        }
    }

    #[test]
    fn in_each_round_every_urgent_task_comes_before_the_normal_ones(plans in vec((0..2usize, 0..12usize), 1..40)) {
        let polls = polls(&plans);
        // Round `n` holds the `n`-th poll of every task that polls so often.
        let mut expected = Vec::new();
        for round in 0..=12 {
            for lane in 0..2 {
                let of_lane = plans.iter().enumerate().filter(|(_, plan)| plan.0 == lane && plan.1 >= round);
                expected.extend(of_lane.map(|(number, _)| number));
            }
        }
        prop_assert_eq!(polls, expected);
    }
}
