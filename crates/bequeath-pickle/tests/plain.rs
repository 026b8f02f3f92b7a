//! Pickle as a serde format.
#![cfg(feature = "serde")]

use std::collections::{BTreeMap, BTreeSet};

use bequeath_pickle::{from_slice, to_vec, Call, Error, Object, Part};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Nothing,
    Number(u64),
    Pair(i8, String),
    Named {
        wide: bool,
        deep: Option<Box<Shape>>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    unit: (),
    truth: bool,
    small: i8,
    large: u64,
    larger: i128,
    largest: u128,
    single: f32,
    double: f64,
    letter: char,
    text: String,
    maybe: Option<u32>,
    list: Vec<i32>,
    tuple: (u8, (u8,), [u8; 4]),
    map: BTreeMap<String, Vec<u16>>,
    set: BTreeSet<u8>,
    shapes: Vec<Shape>,
}

fn everything() -> Everything {
    Everything {
        unit: (),
        truth: true,
        small: -128,
        large: u64::MAX,
        larger: i128::MIN,
        largest: u128::MAX,
        single: 0.5,
        double: -1e300,
        letter: '€',
        text: "spam \0 é".into(),
        maybe: None,
        list: vec![i32::MIN, 0, i32::MAX],
        tuple: (1, (2,), [3, 4, 5, 6]),
        map: BTreeMap::from([("a".into(), vec![]), ("b".into(), vec![1, 2])]),
        set: BTreeSet::from([1, 2]),
        shapes: vec![
            Shape::Nothing,
            Shape::Number(7),
            Shape::Pair(-1, "x".into()),
            Shape::Named {
                wide: true,
                deep: Some(Box::new(Shape::Nothing)),
            },
        ],
    }
}

#[test]
fn everything_comes_back() {
    let pickle = to_vec(&everything()).unwrap();
    assert_eq!(from_slice::<Everything>(&pickle).unwrap(), everything());
}

#[test]
fn what_python_wrote_is_read() {
    // pickle.dumps({"name": "spam", "sizes": {1}, "at": (1.5, None), "big": 2**64 - 1, "raw": b"\xff"}, 5)
    #[derive(Debug, PartialEq, Deserialize)]
    struct Written {
        name: String,
        sizes: BTreeSet<u8>,
        at: (f64, Option<u8>),
        big: u64,
    }
    let pickle = b"\x80\x05\x95L\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x04name\x94\x8c\x04spam\x94\x8c\x05sizes\x94\x8f\x94(K\x01\x90\
        \x8c\x02at\x94G?\xf8\x00\x00\x00\x00\x00\x00N\x86\x94\x8c\x03big\x94\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00\x8c\x03raw\x94C\x01\xff\x94u.";
    let written: Written = from_slice(pickle).unwrap();
    let expected = Written {
        name: "spam".into(),
        sizes: BTreeSet::from([1]),
        at: (1.5, None),
        big: u64::MAX,
    };
    assert_eq!(written, expected);
}

#[test]
fn nothing_is_executed() {
    let system = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.";
    assert_eq!(from_slice::<()>(system), Err(Error::NotPlain("a global")));
}

#[test]
#[cfg_attr(miri, ignore = "it takes a million steps to be too many")]
fn cycles_and_floods_end() {
    // l = []; l.append(l)
    let cycle = b"\x80\x04]\x94h\x00a.";
    #[derive(Debug, Deserialize)]
    struct Nested(#[allow(dead_code)] Vec<Nested>);
    assert!(matches!(
        from_slice::<Nested>(cycle),
        Err(Error::TooMuch(_))
    ));
    // Thirty lists, each of which holds the one before ten times.
    let mut flood = b"\x80\x04]\x94".to_vec();
    for number in 0..30_u8 {
        flood.extend(b"](");
        for _ in 0..10 {
            flood.extend([b'h', number]);
        }
        flood.extend(b"e\x94");
    }
    flood.push(b'.');
    assert!(matches!(
        from_slice::<Nested>(&flood),
        Err(Error::TooMuch(_))
    ));
}

#[test]
fn integers_that_do_not_fit_are_refused() {
    let pickle = to_vec(&u128::MAX).unwrap();
    assert!(from_slice::<i128>(&pickle).is_err());
    assert!(from_slice::<u8>(&to_vec(&256).unwrap()).is_err());
    // 2**200
    let mut huge = b"\x80\x04\x8a\x1a".to_vec();
    huge.extend([0; 25]);
    huge.extend(b"\x01.");
    assert!(matches!(from_slice::<u128>(&huge), Err(Error::TooMuch(_))));
}

type Collections = BTreeMap<String, Vec<(i64, f64, Option<bool>)>>;

fn collections() -> impl Strategy<Value = Collections> {
    proptest::collection::btree_map(
        any::<String>(),
        proptest::collection::vec(any::<(i64, f64, Option<bool>)>(), 0..6),
        0..6,
    )
}

proptest! {
    #[test]
    fn integers_come_back(signed: i128, unsigned: u128) {
        prop_assert_eq!(from_slice::<i128>(&to_vec(&signed).unwrap()).unwrap(), signed);
        prop_assert_eq!(from_slice::<u128>(&to_vec(&unsigned).unwrap()).unwrap(), unsigned);
    }

    #[test]
    fn collections_come_back(value in collections()) {
        let back: Collections = from_slice(&to_vec(&value).unwrap()).unwrap();
        prop_assert_eq!(back, value);
    }

    #[test]
    fn garbage_is_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = from_slice::<Vec<Option<String>>>(&bytes);
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Chain(Vec<Chain>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Link {
    End,
    Next(Box<Link>),
}

#[test]
fn what_is_nested_too_deeply_is_refused_by_the_writer_already() {
    let chain = |depth: usize| (1..depth).fold(Chain(Vec::new()), |inner, _| Chain(vec![inner]));
    let deep = to_vec(&chain(256)).unwrap();
    assert_eq!(from_slice::<Chain>(&deep).unwrap(), chain(256));
    assert!(matches!(to_vec(&chain(257)), Err(Error::TooMuch(_))));
    let links = |depth| (0..depth).fold(Link::End, |inner, _| Link::Next(Box::new(inner)));
    let deep = to_vec(&links(256)).unwrap();
    assert_eq!(from_slice::<Link>(&deep).unwrap(), links(256));
    assert!(matches!(to_vec(&links(257)), Err(Error::TooMuch(_))));
}

/// Miri takes a microsecond for each byte.
const LONG: usize = if cfg!(miri) { 10_000 } else { 1_000_000 };
const MANY: usize = if cfg!(miri) { 1_000 } else { 200_000 };

/// Memory is bought by bytes of the pickle: many short opcodes do not multiply one long text.
#[test]
fn a_long_text_is_not_copied_for_every_opcode_that_names_it() {
    let mut pickle = b"\x80\x04]\x94(X".to_vec();
    pickle.extend((LONG as u32).to_le_bytes());
    pickle.extend(vec![b'a'; LONG]);
    pickle.push(b'\x94');
    pickle.extend(b"h\x01".repeat(LONG));
    pickle.extend(b"e.");
    assert!(matches!(
        from_slice::<Vec<String>>(&pickle),
        Err(Error::TooMuch(_))
    ));
}

#[test]
fn a_word_that_python_repeats_is_read_as_often_as_it_stands_there() {
    let word = "a word of some forty characters, repeated";
    let mut pickle = b"\x80\x04]\x94(\x8c".to_vec();
    pickle.push(word.len() as u8);
    pickle.extend(word.bytes());
    pickle.push(b'\x94');
    pickle.extend(b"h\x01".repeat(MANY));
    pickle.extend(b"e.");
    let words: Vec<String> = from_slice(&pickle).unwrap();
    assert!(words.len() == MANY + 1 && words.iter().all(|each| each == word));
}

/// What Python writes for an event, a queue and a name: only the package's own may be looked at, and nothing is made.
#[test]
fn objects_of_the_package_are_what_the_pickle_says_of_them() {
    let rebuild = b"\x80\x04\x8c\x10bequeath._engine\x8c\x07rebuild\x93(\x8c\x14bequeath.synchronize\x8c\x05Event\x93K\x07]t\x94R\x94}\x8c\x01aK\x01sb.";
    let object: Object = from_slice(rebuild).unwrap();
    assert_eq!(
        (object.module.as_str(), object.name.as_str()),
        ("bequeath._engine", "rebuild")
    );
    let class = Part::Text("bequeath.synchronize.Event".to_owned());
    assert_eq!(
        object.arguments,
        [class, Part::Number(7), Part::Items(Vec::new())]
    );
    assert!(object.state.is_empty());

    let queue = b"\x80\x04\x8c\x0fbequeath.queues\x8c\x05Queue\x93)\x81K\x02K\x03\x86b.";
    let object: Object = from_slice(queue).unwrap();
    assert_eq!(object.state, [Part::Number(2), Part::Number(3)]);
    // Behind whatever serde puts in between.
    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    enum Any {
        #[allow(dead_code)]
        Number(u64),
        Object(Option<Object>),
    }
    assert!(matches!(from_slice(queue), Ok(Any::Object(Some(found))) if found == object));
    assert!(from_slice::<u64>(queue).is_err() && from_slice::<Vec<u64>>(queue).is_err());
    // Sixteen bytes of a name that is nobody's, and calls of what is no name.
    for hostile in [
        &b"\x80\x04\x8c\x10bequeathx_engine\x8c\x07rebuild\x93)R."[..],
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93)\x81.",
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93.",
        b"\x80\x04\x8c\x0fbequeath.queues\x8c\x05Queue\x93.",
        b"\x80\x04\x8c\x0fbequeath.queues\x8c\x05Queue\x93)R)R.",
        b"\x80\x04\x8c\x0fbequeath.queues\x8c\x05Queue\x93]Nb.",
        b"\x80\x04K\x01)R.",
        b"\x80\x04\x8c\x0fbequeath.queues\x8c\x05Queue\x93)\x81NbNb.",
    ] {
        assert!(matches!(
            from_slice::<Object>(hostile),
            Err(Error::NotPlain(_))
        ));
    }
}

#[test]
fn an_object_is_written_as_a_call_that_python_makes() {
    let call = Call {
        module: "bequeath._engine",
        name: "shared_object",
        arguments: (3, "x"),
    };
    let pickle = to_vec(&vec![(1, call)]).unwrap();
    let expected = b"\x80\x05](K\x01\x8c\x10bequeath._engine\x8c\x0dshared_object\x93K\x03\x8c\x01x\x86R\x86e.";
    assert_eq!(pickle, expected);
    let back: Vec<(u8, Object)> = from_slice(&pickle).unwrap();
    assert_eq!(
        back[0].1.arguments,
        [Part::Number(3), Part::Text("x".to_owned())]
    );
}
