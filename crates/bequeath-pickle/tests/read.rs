//! What CPython wrote is read, in every protocol; what is no pickle is refused without harm.

use std::cell::RefCell;
use std::rc::Rc;
use std::vec::Drain;

use bequeath_pickle::{opcode, Builder, Decoder, Encoder, Error, Slice};
use proptest::prelude::*;

/// A value that can be changed after it was remembered, as Python's can.
type Shown = Rc<RefCell<String>>;

/// Builds descriptions of what would be built.
#[derive(Default)]
struct Describer;

fn shown(text: impl Into<String>) -> Shown {
    Rc::new(RefCell::new(text.into()))
}

fn joined(items: Drain<'_, Shown>) -> String {
    items
        .map(|item| item.borrow().clone())
        .collect::<Vec<_>>()
        .join(" ")
}

fn fill(into: &Shown, items: Drain<'_, Shown>) {
    let items = joined(items);
    let mut text = into.borrow_mut();
    let end = text.pop().expect("a container ends in its bracket");
    if text.len() > 1 {
        text.push(' ');
    }
    text.push_str(&items);
    text.push(end);
}

impl Builder for Describer {
    type Value = Shown;
    type Error = Error;

    fn same(&mut self, value: &Shown) -> Shown {
        Rc::clone(value)
    }
    fn none(&mut self) -> Shown {
        shown("none")
    }
    fn boolean(&mut self, value: bool) -> Shown {
        shown(value.to_string())
    }
    fn int(&mut self, value: i64) -> Result<Shown, Error> {
        Ok(shown(value.to_string()))
    }
    fn long(&mut self, bytes: &[u8]) -> Result<Shown, Error> {
        let mut all = [if bytes.last().is_some_and(|last| last & 0x80 != 0) {
            0xff
        } else {
            0
        }; 16];
        if bytes.len() > all.len() {
            return Ok(shown("huge"));
        }
        all[..bytes.len()].copy_from_slice(bytes);
        Ok(shown(i128::from_le_bytes(all).to_string()))
    }
    fn long_text(&mut self, text: &[u8]) -> Result<Shown, Error> {
        Ok(shown(if text.len() > 40 {
            "huge".into()
        } else {
            String::from_utf8_lossy(text)
        }))
    }
    fn float(&mut self, value: f64) -> Result<Shown, Error> {
        Ok(shown(format!("{value:?}")))
    }
    fn float_text(&mut self, text: &[u8]) -> Result<Shown, Error> {
        let text = String::from_utf8_lossy(text);
        self.float(text.parse().map_err(|_| Error::NotANumber("FLOAT"))?)
    }
    fn text(&mut self, utf8: &[u8]) -> Result<Shown, Error> {
        Ok(shown(format!("{:?}", String::from_utf8_lossy(utf8))))
    }
    fn text_escaped(&mut self, escaped: &[u8]) -> Result<Shown, Error> {
        let mut text = String::new();
        let mut rest = escaped;
        while let Some((first, after)) = rest.split_first() {
            let len = match (first, after.first()) {
                (b'\\', Some(b'u')) => 4,
                (b'\\', Some(b'U')) => 8,
                _ => 0,
            };
            if len == 0 {
                text.push(char::from(*first));
                rest = after;
                continue;
            }
            let digits = String::from_utf8_lossy(after.get(1..=len).ok_or(Error::Truncated)?);
            let point = u32::from_str_radix(&digits, 16).map_err(|_| Error::BadEscape)?;
            text.push(char::from_u32(point).ok_or(Error::BadEscape)?);
            rest = &after[1 + len..];
        }
        Ok(shown(format!("{text:?}")))
    }
    fn bytes(&mut self, bytes: &[u8]) -> Result<Shown, Error> {
        Ok(shown(format!("bytes{bytes:?}")))
    }
    fn bytearray(&mut self, bytes: &[u8]) -> Result<Shown, Error> {
        Ok(shown(format!("bytearray{bytes:?}")))
    }
    fn old_string(&mut self, bytes: &[u8]) -> Result<Shown, Error> {
        Ok(shown(format!("old{bytes:?}")))
    }
    fn list(&mut self, items: Drain<'_, Shown>) -> Result<Shown, Error> {
        Ok(shown(format!("[{}]", joined(items))))
    }
    fn tuple(&mut self, items: Drain<'_, Shown>) -> Result<Shown, Error> {
        Ok(shown(format!("({})", joined(items))))
    }
    fn frozenset(&mut self, items: Drain<'_, Shown>) -> Result<Shown, Error> {
        Ok(shown(format!("<{}>", joined(items))))
    }
    fn set(&mut self) -> Result<Shown, Error> {
        Ok(shown("<>"))
    }
    fn dict(&mut self) -> Result<Shown, Error> {
        Ok(shown("{}"))
    }
    fn append(&mut self, list: &Shown, item: Shown) -> Result<(), Error> {
        fill(list, vec![item].drain(..));
        Ok(())
    }
    fn extend(&mut self, list: &Shown, items: Drain<'_, Shown>) -> Result<(), Error> {
        fill(list, items);
        Ok(())
    }
    fn set_items(&mut self, dict: &Shown, items: Drain<'_, Shown>) -> Result<(), Error> {
        fill(dict, items);
        Ok(())
    }
    fn add_items(&mut self, set: &Shown, items: Drain<'_, Shown>) -> Result<(), Error> {
        fill(set, items);
        Ok(())
    }
    fn global(&mut self, module: &[u8], name: &[u8]) -> Result<Shown, Error> {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Ok(shown(format!("{}:{}", text(module), text(name))))
    }
    fn stack_global(&mut self, module: Shown, name: Shown) -> Result<Shown, Error> {
        let named = format!("{}:{}", module.borrow(), name.borrow());
        Ok(shown(named.replace('"', "")))
    }
    fn extension(&mut self, code: u32) -> Result<Shown, Error> {
        Ok(shown(format!("extension{code}")))
    }
    fn reduce(&mut self, callable: Shown, arguments: Shown) -> Result<Shown, Error> {
        Ok(shown(format!(
            "{}{}",
            callable.borrow(),
            arguments.borrow()
        )))
    }
    fn new_object(&mut self, class: Shown, arguments: Shown) -> Result<Shown, Error> {
        Ok(shown(format!(
            "new {}{}",
            class.borrow(),
            arguments.borrow()
        )))
    }
    fn new_object_with_keywords(
        &mut self,
        class: Shown,
        _: Shown,
        _: Shown,
    ) -> Result<Shown, Error> {
        Ok(shown(format!("new {} with keywords", class.borrow())))
    }
    fn instance(&mut self, class: Shown, arguments: Shown) -> Result<Shown, Error> {
        Ok(shown(format!(
            "instance {}{}",
            class.borrow(),
            arguments.borrow()
        )))
    }
    fn build(&mut self, object: &Shown, state: Shown) -> Result<(), Error> {
        let state = format!("+{}", state.borrow());
        object.borrow_mut().push_str(&state);
        Ok(())
    }
    fn persistent(&mut self, id: Shown) -> Result<Shown, Error> {
        Ok(shown(format!("persistent {}", id.borrow())))
    }
    fn next_buffer(&mut self) -> Result<Shown, Error> {
        Ok(shown("buffer"))
    }
    fn readonly(&mut self, buffer: Shown) -> Result<Shown, Error> {
        Ok(shown(format!("readonly {}", buffer.borrow())))
    }
}

fn read(pickle: &[u8]) -> Result<String, Error> {
    let mut source = Slice::new(pickle);
    let value = Decoder::new().read(&mut source, &mut Describer)?;
    assert!(source.rest().is_empty(), "bytes after the end");
    let text = value.borrow().clone();
    Ok(text)
}

#[test]
fn every_protocol_says_the_same() {
    let vectors: [&[u8]; 6] = [
        include_bytes!("vectors/protocol0.pickle"),
        include_bytes!("vectors/protocol1.pickle"),
        include_bytes!("vectors/protocol2.pickle"),
        include_bytes!("vectors/protocol3.pickle"),
        include_bytes!("vectors/protocol4.pickle"),
        include_bytes!("vectors/protocol5.pickle"),
    ];
    let newest = read(vectors[5]).unwrap();
    assert!(
        newest.contains(r#""ints" (0 1 255 256 65535 65536 -1 2147483647"#),
        "{newest}"
    );
    assert!(
        newest.contains(r#""shared" [["again"] ["again"]]"#),
        "{newest}"
    );
    assert!(
        newest.contains(r#""tuples" (() (1) (1 2) (1 2 3) (1 2 3 4))"#),
        "{newest}"
    );
    for (protocol, vector) in vectors.iter().enumerate() {
        assert_eq!(read(vector).unwrap(), newest, "protocol {protocol}");
    }
}

#[test]
fn every_prefix_is_refused() {
    let whole = include_bytes!("vectors/protocol4.pickle");
    // (Miri takes a second for each.)
    for end in (0..whole.len()).step_by(if cfg!(miri) { 41 } else { 1 }) {
        let error = read(&whole[..end]).unwrap_err();
        assert!(
            matches!(error, Error::Ended | Error::Truncated),
            "{end}: {error}"
        );
    }
}

#[test]
fn old_ways_of_saying_things() {
    assert_eq!(read(b"(lp0\nI1\naI2\na.").unwrap(), "[1 2]");
    assert_eq!(read(b"(I1\nI2\nd.").unwrap(), "{1 2}");
    assert_eq!(read(b"(iab\nc\n.").unwrap(), "instance ab:c()");
    assert_eq!(read(b"(cab\nc\nI7\no.").unwrap(), "instance ab:c(7)");
    assert_eq!(read(b"S'a\\x41\\n'\n.").unwrap(), "old[97, 65, 10]");
    assert_eq!(read(b"I01\n.").unwrap(), "true");
    assert_eq!(
        read(b"L12345678901234567890L\n.").unwrap(),
        "12345678901234567890"
    );
    assert_eq!(read(b"Pid\n.").unwrap(), "persistent \"id\"");
    assert_eq!(read(b"I1\n20.").unwrap(), "1");
    assert_eq!(read(b"(I1\nI2\n1I3\n.").unwrap(), "3");
    assert_eq!(read(b"\x82\x07.").unwrap(), "extension7");
    assert_eq!(read(b"\x80\x05\x97\x98.").unwrap(), "readonly buffer");
}

#[test]
fn what_is_wrong_is_said() {
    assert_eq!(read(b""), Err(Error::Ended));
    assert_eq!(read(b"."), Err(Error::Underflow));
    assert_eq!(read(b"I1\n("), Err(Error::Ended));
    assert_eq!(read(b"I1\n(."), Err(Error::UnexpectedMark));
    assert_eq!(read(b"t."), Err(Error::NoMark));
    assert_eq!(read(b"}(I1\nu."), Err(Error::OddItems("SETITEMS")));
    assert_eq!(read(b"h\x07."), Err(Error::NotRemembered(7)));
    assert_eq!(read(b"I1\np-1\n."), Err(Error::NegativePut));
    assert_eq!(read(b"\x80\x06."), Err(Error::Protocol(6)));
    assert_eq!(read(b"\xff."), Err(Error::Opcode(0xff)));
    assert_eq!(
        read(b"T\xff\xff\xff\xff."),
        Err(Error::NegativeLength("BINSTRING"))
    );
    assert_eq!(
        read(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff."),
        Err(Error::TooLong("BINUNICODE8"))
    );
    assert_eq!(read(b"\x8d\0\0\0\0\0\0\0\x7f."), Err(Error::Truncated));
    assert_eq!(read(b"\x82\0."), Err(Error::ExtensionCode));
    assert_eq!(read(b"S'a\n."), Err(Error::NotQuoted));
    assert_eq!(read(b"P\xe9\n."), Err(Error::PersistentNotAscii));
}

#[test]
fn a_number_far_away_is_remembered_and_costs_nothing() {
    // 0xffff_ffff under LONG_BINPUT: a vector would be 32 GiB.
    assert_eq!(
        read(b"I5\nr\xff\xff\xff\xff0j\xff\xff\xff\xff.").unwrap(),
        "5"
    );
    // Then numbers that grow towards it, across the point where far ones become near.
    let mut pickle = Vec::new();
    for number in [3000_u32, 0, 1000, 2500, 4000] {
        pickle.extend(format!("I{number}\np{number}\n0").bytes());
    }
    pickle.extend(b"(");
    for number in [0_u32, 1000, 2500, 3000, 4000] {
        pickle.extend(format!("g{number}\n").bytes());
    }
    pickle.extend(b"t.");
    assert_eq!(read(&pickle).unwrap(), "(0 1000 2500 3000 4000)");
}

#[test]
fn a_second_pickle_remembers_the_first() {
    let bytes = b"\x80\x04\x8c\x01a\x94.\x80\x04h\x00.";
    let (mut source, mut decoder) = (Slice::new(bytes), Decoder::new());
    let first = decoder.read(&mut source, &mut Describer).unwrap();
    let second = decoder.read(&mut source, &mut Describer).unwrap();
    assert!(Rc::ptr_eq(&first, &second));
    assert_eq!(decoder.protocol(), 4);
}

#[test]
#[cfg_attr(miri, ignore = "frames are 64 KiB long")]
fn frames_hold_what_belongs_together() {
    let mut encoder = Encoder::new(4, true, Vec::new());
    encoder.begin();
    encoder.opcode(opcode::EMPTY_LIST);
    encoder.opcode(opcode::MARK);
    let mut closed = 0;
    for _ in 0..50_000 {
        encoder.int(77);
        closed += usize::from(encoder.boundary());
    }
    encoder.binary(&[7; 100_000]);
    encoder.opcode(opcode::APPENDS);
    encoder.end();
    let bytes = encoder.into_bytes();
    assert_eq!(closed, 1);
    assert_eq!(&bytes[..3], b"\x80\x04\x95");
    let first = u64::from_le_bytes(bytes[3..11].try_into().unwrap());
    assert_eq!(first, 65_536);
    let text = read(&bytes).unwrap();
    assert_eq!(text.matches("77").count(), 50_000);
    assert!(text.ends_with("7, 7]]"));
}

proptest! {
    #[test]
    fn integers_are_read_as_they_were_written(value: i64, protocol in 0_u8..=5) {
        let mut encoder = Encoder::new(protocol, true, Vec::new());
        encoder.begin();
        encoder.int(value);
        encoder.end();
        prop_assert_eq!(read(encoder.bytes()).unwrap(), value.to_string());
    }

    #[test]
    fn text_is_read_as_it_was_written(value: String) {
        let mut encoder = Encoder::new(0, false, Vec::new());
        encoder.begin();
        encoder.text_line(value.chars().map(u32::from));
        encoder.end();
        prop_assert_eq!(read(encoder.bytes()).unwrap(), format!("{value:?}"));
    }

    #[test]
    fn garbage_ends_in_an_error_or_a_value(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Decoder::new().read(&mut Slice::new(&bytes), &mut Describer);
    }

    #[test]
    fn a_damaged_pickle_ends_in_an_error_or_a_value(at in 0_usize..1000, byte: u8) {
        let mut bytes = include_bytes!("vectors/protocol5.pickle").to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = Decoder::new().read(&mut Slice::new(&bytes), &mut Describer);
    }
}

/// Each number lies just within what the numbers before had made room for: thirty of them once filled any memory.
#[test]
fn numbers_that_run_ahead_of_the_values_make_no_room() {
    let mut pickle = b"N".to_vec();
    let mut number = 1023_u64;
    while number < u64::from(u32::MAX) {
        pickle.push(opcode::LONG_BINPUT);
        pickle.extend((number as u32).to_le_bytes());
        number = number * 2 + 1025;
    }
    pickle.push(b'.');
    assert_eq!(read(&pickle).unwrap(), "none");
}
