#![doc = include_str!("../../../docs/io.md")]
