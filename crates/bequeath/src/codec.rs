//! Values to bytes and back: the one place that names a format, and that the project's own pickler
//! will take over.
//!
//! The format (postcard) does not describe itself: types that ask what comes next (untagged or
//! flattened serde types, skipped fields) are refused or misread by it, as its documentation says.

use std::any::type_name;

use serde::de::DeserializeOwned;
use serde::Serialize;

use crate::error::{Error, Result};

/// The value as bytes.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    postcard::to_allocvec(value).map_err(|error| Error::Encode {
        what: type_name::<T>(),
        reason: error.to_string(),
    })
}

/// The value that the bytes, all of them, stand for.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let refused = |reason: String| Error::Decode {
        what: type_name::<T>(),
        reason,
    };
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(refused(format!("{} bytes too many", rest.len()))),
        Err(error) => Err(refused(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_is_decoded_and_nothing_else() {
        let value = (7_u32, "seven".to_owned(), vec![Some(1.5_f64), None]);
        let bytes = encode(&value).unwrap();
        assert_eq!(
            decode::<(u32, String, Vec<Option<f64>>)>(&bytes).unwrap(),
            value
        );
        assert!(matches!(decode::<u8>(&bytes), Err(Error::Decode { .. })));
        let short = &bytes[..bytes.len() - 1];
        assert!(decode::<(u32, String, Vec<Option<f64>>)>(short).is_err());
    }
}
