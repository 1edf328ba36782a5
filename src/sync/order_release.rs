//! What release builds have in place of `order.rs`: nothing.

#[derive(Clone, Copy, Debug)]
pub(crate) struct Site;

impl Site {
    #[inline]
    pub(crate) fn here() -> Self {
        Self
    }
}

#[derive(Debug)]
pub(crate) struct Mark;

impl Mark {
    pub(crate) const NEW: Self = Self;

    pub(crate) fn number(&mut self) -> u64 {
        0
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Hold {
    Scoped,
    Loose,
}

#[derive(Debug)]
pub(crate) struct Wish;

impl Wish {
    #[inline]
    pub(crate) fn new(_: impl FnOnce() -> u64, _: &'static str, _: Site, _: Hold) -> Self {
        Self
    }

    #[inline]
    pub(crate) fn taken(self) {}
}

#[inline]
pub(crate) fn taken_at_once(_: impl FnOnce() -> u64, _: &'static str, _: Site) {}

#[inline]
pub(crate) fn released(_: impl FnOnce() -> u64) {}

pub(crate) struct Wanted {
    pub(crate) text: String,
    pub(crate) holder: u64,
}

pub(crate) fn wanted_by(_: u64) -> Vec<Wanted> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_builds_keep_nothing_of_the_order_of_locks() {
        assert_eq!(size_of::<(Site, Mark, Wish)>(), 0);
        assert!(!std::mem::needs_drop::<(Site, Mark, Wish)>());
    }
}
