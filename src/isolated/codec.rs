//! Arguments and results as bytes.
//!
//! MessagePack with the names of fields. Both ends are the same build, so a format without names would be enough and shorter;
//! but such formats lose what serde's attributes do: a skipped field shifts its neighbours, and an untagged or flattened one
//! cannot be read at all. With names, what survives JSON survives here. Bytes are bytes and not lists of numbers.

use rmp_serde::{Deserializer, Serializer, config::BytesMode};
use serde::{Deserialize, Serialize};

pub(super) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::new(&mut bytes).with_struct_map().with_bytes(BytesMode::ForceIterables);
    value.serialize(&mut serializer).map_err(|error| error.to_string())?;
    Ok(bytes)
}

pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    let mut deserializer = Deserializer::from_read_ref(bytes);
    T::deserialize(&mut deserializer).map_err(|error| error.to_string())
}
