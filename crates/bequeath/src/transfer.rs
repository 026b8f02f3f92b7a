//! The transfer context: what lets a handle stand anywhere inside a serde type.
//!
//! While a value is encoded for a destination, a thread-local context collects the objects and
//! descriptors that it meets; the bytes hold only their numbers. The receiver decodes with the
//! arrived objects in its own context. Without a context there is no destination, and `Serialize`
//! is refused: bytes alone cannot keep an object alive.
//!
//! Contexts form a stack, because a `Serialize` may itself send something.

use std::any::type_name;
use std::cell::RefCell;
use std::os::fd::{BorrowedFd, OwnedFd};

use bequeath_shm::{AnyHandle, Block, Session};
use serde::de::DeserializeOwned;
use serde::Serialize;

use crate::codec;
use crate::error::{Error, Result};

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
        descriptors: Vec<Option<OwnedFd>>,
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
        descriptors: parts.descriptors.into_iter().map(Some).collect(),
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

/// The number under which `fd` travels; a copy goes, the original stays.
pub(crate) fn export_descriptor<E: serde::ser::Error>(
    fd: BorrowedFd<'_>,
    kind: &str,
) -> Result<u32, E> {
    with_top(|context| {
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
    .map_err(E::custom)
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

/// The descriptor that travelled under this number; each is given once.
pub(crate) fn import_descriptor<E: serde::de::Error>(number: u32) -> Result<OwnedFd, E> {
    with_top(|context| {
        let Context::Import { descriptors, .. } = context else {
            return None;
        };
        descriptors.get_mut(number as usize).and_then(Option::take)
    })
    .ok_or_else(|| {
        E::custom(format!(
            "descriptor {number} did not arrive with the message"
        ))
    })
}

/// The number under which an object travels; it is counted for the message.
pub(crate) fn export_handle<E: serde::ser::Error>(
    handle: &AnyHandle,
    kind: &'static str,
) -> Result<u32, E> {
    with_top(|context| {
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
    .map_err(E::custom)
}

/// The object that travelled under this number, as `open` makes one of it.
pub(crate) fn import_handle<T, E: serde::de::Error>(
    number: u32,
    open: impl FnOnce(&AnyHandle) -> Result<T>,
) -> Result<T, E> {
    let arrived = with_top(|context| {
        let Context::Import {
            references,
            failure,
            ..
        } = context
        else {
            return None;
        };
        let opened = open(references.get(number as usize)?);
        Some(opened.map_err(|error| fail(failure, error)))
    });
    match arrived {
        Some(opened) => opened.map_err(E::custom),
        None => {
            let kind = short_name::<T>();
            Err(E::custom(format!(
                "{kind} {number} did not arrive with the message"
            )))
        }
    }
}

/// Makes a type that is one handle stand inside serde types.
macro_rules! transferable {
    ($name:ident $(<$parameter:ident: $bound:path>)?) => {
        impl $(<$parameter: $bound>)? serde::Serialize for $name $(<$parameter>)? {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let number = $crate::transfer::export_handle(&self.to_handle(), stringify!($name))?;
                serializer.serialize_u32(number)
            }
        }

        impl<'de $(, $parameter: $bound)?> serde::Deserialize<'de> for $name $(<$parameter>)? {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let number = <u32 as serde::Deserialize>::deserialize(deserializer)?;
                $crate::transfer::import_handle(number, Self::from_handle)
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
