//! The escapes of protocol 0: text as raw-unicode-escape, old strings as Python writes their repr.

use crate::error::{Error, Result};

/// Writes one code point of a `UNICODE` line; surrogates are code points like others.
pub(crate) fn escape_into(out: &mut Vec<u8>, point: u32) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut digits = |prefix: &[u8], count: u32| {
        out.extend_from_slice(prefix);
        out.extend(
            (0..count)
                .rev()
                .map(|at| HEX[(point >> (4 * at) & 15) as usize]),
        );
    };
    match point {
        // What a line or an escape would be broken by: backslash, newline, carriage return, NUL and the DOS end of file.
        0 | 0x0a | 0x0d | 0x1a | 0x5c | 0x100..=0xffff => digits(b"\\u", 4),
        0x01_0000.. => digits(b"\\U", 8),
        #[allow(clippy::cast_possible_truncation)] // below 0x100, by the arms above
        latin => out.push(latin as u8),
    }
}

/// Room for so many bytes.
///
/// # Errors
/// [`Error::NoMemory`].
pub(crate) fn with_room(len: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let reserved = bytes.try_reserve_exact(len);
    reserved.map(|()| bytes).map_err(|_| Error::NoMemory(len))
}

/// The bytes of an old string from its quoted line.
///
/// # Errors
/// [`Error::NotQuoted`], [`Error::BadEscape`].
pub(crate) fn unquote(line: &[u8]) -> Result<Vec<u8>> {
    let inside = match line {
        [first @ (b'\'' | b'"'), inside @ .., last] if first == last => inside,
        _ => return Err(Error::NotQuoted),
    };
    let mut bytes = with_room(inside.len())?;
    let mut rest = inside.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let escaped = rest.next().ok_or(Error::BadEscape)?;
        match escaped {
            b'\n' => {}
            b'\\' | b'\'' | b'"' => bytes.push(escaped),
            b'a' => bytes.push(7),
            b'b' => bytes.push(8),
            b'f' => bytes.push(12),
            b'n' => bytes.push(b'\n'),
            b'r' => bytes.push(b'\r'),
            b't' => bytes.push(b'\t'),
            b'v' => bytes.push(11),
            b'0'..=b'7' => {
                let mut value = u32::from(escaped - b'0');
                for _ in 0..2 {
                    let Some(digit) = rest.next_if(|byte| (b'0'..=b'7').contains(byte)) else {
                        break;
                    };
                    value = value * 8 + u32::from(digit - b'0');
                }
                bytes.push((value & 0xff) as u8);
            }
            b'x' => {
                let mut digit = || {
                    let byte = rest.next()?;
                    char::from(byte).to_digit(16)
                };
                let (high, low) = (digit(), digit());
                let (Some(high), Some(low)) = (high, low) else {
                    return Err(Error::BadEscape);
                };
                bytes.push((high * 16 + low) as u8);
            }
            other => bytes.extend([b'\\', other]),
        }
    }
    Ok(bytes)
}

/// The text of a `UNICODE` line.
///
/// # Errors
/// [`Error::NotUnicode`] for an escape that is broken or no character.
#[cfg(feature = "serde")]
pub(crate) fn unescape(line: &[u8]) -> Result<String> {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((first, after)) = rest.split_first() {
        let digits = match (first, after.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => {
                text.push(char::from(*first));
                rest = after;
                continue;
            }
        };
        let hexadecimal = after.get(1..=digits).ok_or(Error::NotUnicode)?;
        let point = std::str::from_utf8(hexadecimal)
            .ok()
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .and_then(char::from_u32);
        text.push(point.ok_or(Error::NotUnicode)?);
        rest = &after[1 + digits..];
    }
    Ok(text)
}
