//! Arguments and results as bytes.
//!
//! MessagePack with the names of fields. Both ends are the same build, so a format without names would be enough and shorter;
//! but such formats lose what serde's attributes do: a skipped field shifts its neighbours, and an untagged or flattened one
//! cannot be read at all. With names, what survives JSON survives here.
//!
//! For that both say that they are readable for humans, as JSON does: what serde itself keeps for a moment, as for tags, it reads by
//! that rule. And a list of `u8` is a list as any other. The library could take one for bytes, which is half the time, but it goes by
//! the first item, and what is then read by way of serde fails.

use rmp_serde::{Deserializer, Serializer};
use serde::{Deserialize, Serialize};

pub(super) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::new(&mut bytes).with_struct_map().with_human_readable();
    value.serialize(&mut serializer).map_err(|error| error.to_string())?;
    Ok(bytes)
}

pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    let mut deserializer = Deserializer::from_read_ref(bytes).with_human_readable();
    T::deserialize(&mut deserializer).map_err(|error| error.to_string())
}
