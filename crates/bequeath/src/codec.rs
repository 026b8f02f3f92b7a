//! Values to bytes and back: the one place that names a format, which is the plain part of pickle.
//!
//! So a Python program at the other end of a queue reads what a Rust program wrote, and the other way
//! round, and nothing that a pickle names is ever looked up or called. Python puts the simplest
//! objects into a message without a pickle, each under a kind of its own.

use std::any::type_name;

use bequeath_channel::kind;
use bequeath_pickle::{from_slice, to_vec, Encoder, HIGHEST_PROTOCOL};
use serde::de::DeserializeOwned;
use serde::Serialize;

use crate::error::{Error, Result};

/// The value as a pickle.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    to_vec(value).map_err(|error| Error::Encode {
        what: type_name::<T>(),
        reason: error.to_string(),
    })
}

/// The value that a pickle stands for.
pub(crate) fn decode<T: DeserializeOwned>(pickle: &[u8]) -> Result<T> {
    from_slice(pickle).map_err(|error| Error::Decode {
        what: type_name::<T>(),
        reason: error.to_string(),
    })
}

/// A message's payload as a pickle, whatever kind it is; `None` for a kind that is no value.
pub(crate) fn as_pickle(message: u8, payload: Vec<u8>) -> Result<Option<Vec<u8>>> {
    if message == kind::PICKLE {
        return Ok(Some(payload));
    }
    let word = || {
        let word: Result<[u8; 8], _> = payload.as_slice().try_into();
        word.map_err(|_| Error::Malformed("a number of another size than numbers have"))
    };
    let mut pickle = Encoder::new(
        HIGHEST_PROTOCOL,
        false,
        Vec::with_capacity(payload.len() + 16),
    );
    pickle.begin();
    match message {
        kind::BYTES => pickle.binary(&payload),
        kind::TEXT => pickle.text(&payload),
        kind::INT => pickle.int(i64::from_ne_bytes(word()?)),
        kind::FLOAT => pickle.float(f64::from_ne_bytes(word()?)),
        kind::NONE => pickle.none(),
        kind::TRUE | kind::FALSE => pickle.boolean(message == kind::TRUE),
        _ => return Ok(None),
    }
    pickle.end();
    Ok(Some(pickle.into_bytes()))
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

    #[test]
    fn a_message_without_a_pickle_is_a_value_too() {
        fn read<T: DeserializeOwned>(kind: u8, payload: &[u8]) -> Result<T> {
            decode(&as_pickle(kind, payload.to_vec())?.expect("a value"))
        }
        assert_eq!(read::<i64>(kind::INT, &(-5_i64).to_ne_bytes()).unwrap(), -5);
        assert_eq!(
            read::<Option<u8>>(kind::INT, &7_i64.to_ne_bytes()).unwrap(),
            Some(7)
        );
        assert_eq!(
            read::<f64>(kind::FLOAT, &0.5_f64.to_ne_bytes()).unwrap(),
            0.5
        );
        assert_eq!(read::<String>(kind::TEXT, "é".as_bytes()).unwrap(), "é");
        assert_eq!(
            read::<crate::Bytes>(kind::BYTES, &[1, 2]).unwrap().0,
            [1, 2]
        );
        assert!(read::<bool>(kind::TRUE, &[]).unwrap() && !read::<bool>(kind::FALSE, &[]).unwrap());
        assert_eq!(read::<Option<u8>>(kind::NONE, &[]).unwrap(), None);
        assert!(
            read::<i64>(kind::INT, &[1]).is_err() && read::<String>(kind::TEXT, &[0xff]).is_err()
        );
        assert!(as_pickle(b'r', Vec::new()).unwrap().is_none());
    }

    /// A pickle that would call `os.system` if anybody executed it.
    #[test]
    fn a_global_is_refused_by_name_and_not_looked_up() {
        let refused = decode::<Option<i32>>(b"cos\nsystem\n(S'true'\ntR.").unwrap_err();
        assert!(refused.to_string().contains("a global"), "{refused}");
    }
}
