//! The transfer context: what lets a handle stand anywhere inside a serde type.
//!
//! While a value is encoded for a destination, a thread-local context collects the objects and
//! descriptors that it meets; the bytes hold only their numbers, in the forms of `forms`. The receiver
//! decodes with the arrived objects in its own context. Without a context there is no destination, and `Serialize`
//! is refused: bytes alone cannot keep an object alive.
//!
//! Contexts form a stack, because a `Serialize` may itself send something.

use std::any::type_name;
use std::cell::RefCell;
use std::os::fd::{BorrowedFd, OwnedFd};

use bequeath_pickle::Object;
use bequeath_shm::{AnyHandle, Block, Session};
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec;
use crate::error::{Error, Result};
use crate::forms;

/// A value on its way: bytes, and what the numbers in them stand for.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) bytes: Vec<u8>,
    pub(crate) references: Vec<AnyHandle>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

enum Context {
    Export {
        session: Session,
        parts: Parts,
        failure: Option<Error>,
    },
    Import {
        references: Vec<AnyHandle>,
        descriptors: Vec<OwnedFd>,
        failure: Option<Error>,
    },
}

thread_local! {
    static CONTEXTS: RefCell<Vec<Context>> = const { RefCell::new(Vec::new()) };
}

/// Encodes `value` for a process of `session`.
pub(crate) fn export<T: Serialize + ?Sized>(session: &Session, value: &T) -> Result<Parts> {
    let context = Context::Export {
        session: session.clone(),
        parts: Parts::default(),
        failure: None,
    };
    match within(context, || codec::encode(value)) {
        (
            Context::Export {
                failure: Some(failure),
                ..
            },
            Err(_),
        ) => Err(failure),
        (Context::Export { parts, .. }, Ok(bytes)) => Ok(Parts { bytes, ..parts }),
        (_, Err(error)) => Err(error),
        (Context::Import { .. }, Ok(_)) => Err(Error::Malformed("the transfer's context changed")),
    }
}

/// Decodes what [`export`] made; what the value did not take is dropped.
pub(crate) fn import<T: DeserializeOwned>(parts: Parts) -> Result<T> {
    let context = Context::Import {
        references: parts.references,
        descriptors: parts.descriptors,
        failure: None,
    };
    match within(context, || codec::decode(&parts.bytes)) {
        (
            Context::Import {
                failure: Some(failure),
                ..
            },
            Err(_),
        ) => Err(failure),
        (_, decoded) => decoded,
    }
}

/// Runs `body` with the context on top, and gives the context back, also when `body` panics.
fn within<T>(context: Context, body: impl FnOnce() -> T) -> (Context, T) {
    struct Pop;
    impl Drop for Pop {
        fn drop(&mut self) {
            let context = CONTEXTS.with(|contexts| contexts.borrow_mut().pop());
            drop(context);
        }
    }
    CONTEXTS.with(|contexts| contexts.borrow_mut().push(context));
    let pop = Pop;
    let result = body();
    std::mem::forget(pop);
    let context = CONTEXTS.with(|contexts| contexts.borrow_mut().pop());
    (
        context.expect("pushed above, and every nested context pops its own"),
        result,
    )
}

/// What multiprocessing says, why, and what to do instead.
fn refusal(kind: &str) -> String {
    format!(
        "{kind} objects should only be shared between processes through inheritance: outside a transfer \
         there is no process that would hold the object, and bytes cannot keep it alive; pass it as an \
         argument of Session::spawn or inside a message through a Queue (docs/why.md#refused)"
    )
}

fn with_top<T>(look: impl FnOnce(&mut Context) -> Option<T>) -> Option<T> {
    CONTEXTS.with(|contexts| contexts.borrow_mut().last_mut().and_then(look))
}

fn is_same(one: &Session, other: &Session) -> bool {
    let identity =
        |session: &Session| bequeath_os::memfd::identity(session.descriptor().ok()?).ok();
    matches!((identity(one), identity(other)), (Some(one), Some(other)) if one == other)
}

/// Writes a descriptor: a copy goes, the original stays.
pub(crate) fn export_descriptor<S: Serializer>(
    fd: BorrowedFd<'_>,
    kind: &str,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let number = with_top(|context| {
        let Context::Export { parts, failure, .. } = context else {
            return None;
        };
        Some(match fd.try_clone_to_owned() {
            Ok(copy) => {
                parts.descriptors.push(copy);
                Ok(parts.descriptors.len() as u32 - 1)
            }
            Err(error) => Err(fail(failure, copy_failed(error))),
        })
    })
    .unwrap_or_else(|| Err(refusal(kind)))
    .map_err(S::Error::custom)?;
    forms::descriptor(number).serialize(serializer)
}

pub(crate) fn copy_failed(error: std::io::Error) -> Error {
    let errno = error.raw_os_error().unwrap_or(0);
    let errno = bequeath_os::Errno::from_raw_os_error(errno);
    bequeath_os::Error::new("fcntl", errno).into()
}

/// Keeps the error that the format would forget, and returns its text.
fn fail(failure: &mut Option<Error>, error: Error) -> String {
    let text = error.to_string();
    *failure = Some(error);
    text
}

/// The descriptor that travelled under the number that is read; a copy, since a message of Python's may name
/// one file at several places.
pub(crate) fn import_descriptor<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<OwnedFd, D::Error> {
    let number = forms::number_of(&Object::deserialize(deserializer)?, forms::DESCRIPTORS)
        .ok_or_else(|| D::Error::custom("an object without a descriptor"))?;
    with_top(|context| {
        let Context::Import {
            descriptors,
            failure,
            ..
        } = context
        else {
            return None;
        };
        let copy = descriptors.get(number)?.try_clone();
        Some(copy.map_err(|error| fail(failure, copy_failed(error))))
    })
    .unwrap_or_else(|| {
        Err(format!(
            "descriptor {number} did not arrive with the message"
        ))
    })
    .map_err(D::Error::custom)
}

/// Writes an object, which is counted for the message.
pub(crate) fn export_handle<S: Serializer>(
    handle: &AnyHandle,
    kind: &'static str,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let number = with_top(|context| {
        let Context::Export {
            session,
            parts,
            failure,
        } = context
        else {
            return None;
        };
        if !is_same(session, handle.session()) {
            return Some(Err(fail(failure, Error::AnotherSession { what: kind })));
        }
        let wanted = handle.reference();
        let known = parts
            .references
            .iter()
            .position(|other| other.reference() == wanted);
        Some(Ok(known.unwrap_or_else(|| {
            parts.references.push(handle.clone());
            parts.references.len() - 1
        }) as u32))
    })
    .unwrap_or_else(|| Err(refusal(kind)))
    .map_err(S::Error::custom)?;
    forms::object(number).serialize(serializer)
}

/// The object that travelled under the number that is read, as `open` makes one of it.
pub(crate) fn import_handle<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    open: impl FnOnce(&AnyHandle) -> Result<T>,
) -> Result<T, D::Error> {
    let kind = short_name::<T>();
    let object = Object::deserialize(deserializer)?;
    let number = forms::number_of(&object, forms::OBJECTS).ok_or_else(|| {
        let Object { module, name, .. } = &object;
        D::Error::custom(format!("what {module}.{name} makes is no {kind}"))
    })?;
    let arrived = with_top(|context| {
        let Context::Import {
            references,
            failure,
            ..
        } = context
        else {
            return None;
        };
        let opened = open(references.get(number)?);
        Some(opened.map_err(|error| fail(failure, error)))
    });
    match arrived {
        Some(opened) => opened.map_err(D::Error::custom),
        None => Err(D::Error::custom(format!(
            "{kind} {number} did not arrive with the message"
        ))),
    }
}

/// Makes a type that is one handle stand inside serde types.
macro_rules! transferable {
    ($name:ident $(<$parameter:ident: $bound:path>)?) => {
        impl $(<$parameter: $bound>)? serde::Serialize for $name $(<$parameter>)? {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::transfer::export_handle(&self.to_handle(), stringify!($name), serializer)
            }
        }

        impl<'de $(, $parameter: $bound)?> serde::Deserialize<'de> for $name $(<$parameter>)? {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::transfer::import_handle(deserializer, Self::from_handle)
            }
        }
    };
}
pub(crate) use transferable;

/// The last part of a type's path: `Queue` of `bequeath_channel::queue::Queue`.
pub(crate) fn short_name<T>() -> &'static str {
    let name = type_name::<T>();
    let name = name.split('<').next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}
