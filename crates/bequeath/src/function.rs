#![allow(unsafe_code)]
//! A function's name to another copy of this program: its distance from a fixed symbol.
//!
//! # Safety invariants
//! - The offsets are used only by a process whose program has the same [`identity`] as the sender's
//!   (same build, hence same code at the same distances), and only if the place is code of the
//!   program's own image.
//! - The sender made both offsets from one call of [`Name::of`], which ties the entry's type
//!   parameters to the function's type; they travel in one message over a socket that only parent
//!   and child hold.

use std::any::type_name;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::OnceLock;

use bequeath_os::Image;
use bequeath_shm::Session;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::transfer::{self, Parts};

/// A function and the code that decodes its argument, calls it and encodes what it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Name {
    entry: u64,
    function: u64,
}

/// What became of a call.
pub(crate) enum Call {
    Returned(Parts),
    Panicked(String),
    Failed(Error),
}

type Entry = fn(usize, Parts, &Session) -> Call;

impl Name {
    /// The name of `function`.
    pub(crate) fn of<A, R>(function: fn(A) -> R) -> Result<Self>
    where
        A: DeserializeOwned,
        R: Serialize,
    {
        let entry: Entry = enter::<A, R>;
        Ok(Self {
            entry: offset(entry as usize)?,
            function: offset(function as usize)?,
        })
    }

    /// Calls the function in this process.
    pub(crate) fn call(self, arguments: Parts, session: &Session) -> Result<Call> {
        let entry = address(self.entry)?;
        let function = address(self.function)?;
        // SAFETY: by the module's invariants this place is an `enter` of the same build, made a
        // number from this very type.
        let entry = unsafe { std::mem::transmute::<usize, Entry>(entry) };
        Ok(entry(function, arguments, session))
    }
}

/// What must be equal in both processes for a name to mean the same.
pub(crate) fn identity() -> &'static [u8] {
    static IDENTITY: OnceLock<Vec<u8>> = OnceLock::new();
    IDENTITY.get_or_init(|| own_image().map(Image::identity).unwrap_or_default())
}

fn own_image() -> Option<&'static Image> {
    static IMAGE: OnceLock<Option<Image>> = OnceLock::new();
    IMAGE.get_or_init(|| Image::containing(anchor())).as_ref()
}

/// The fixed symbol.
fn anchor() -> usize {
    anchor as fn() -> usize as usize
}

fn offset(address: usize) -> Result<u64> {
    if own_image().is_some_and(|image| image.is_code(address)) {
        Ok(address.wrapping_sub(anchor()) as u64)
    } else {
        Err(Error::ForeignFunction { address })
    }
}

fn address(offset: u64) -> Result<usize> {
    let address = anchor().wrapping_add(offset as usize);
    if own_image().is_some_and(|image| image.is_code(address)) {
        Ok(address)
    } else {
        Err(Error::ForeignFunction { address })
    }
}

fn enter<A, R>(function: usize, arguments: Parts, session: &Session) -> Call
where
    A: DeserializeOwned,
    R: Serialize,
{
    let arguments = match transfer::import::<A>(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return Call::Failed(error),
    };
    // SAFETY: the sender's `Name::of` tied this number to this instance of `enter`; `Name::call`
    // checked that it is code.
    let function = unsafe { std::mem::transmute::<usize, fn(A) -> R>(function) };
    let finished = catch_unwind(AssertUnwindSafe(|| {
        let result = function(arguments);
        transfer::export(session, &result)
    }));
    match finished {
        Ok(Ok(parts)) => Call::Returned(parts),
        Ok(Err(error)) => Call::Failed(error),
        Err(panic) => Call::Panicked(message(panic.as_ref(), type_name::<fn(A) -> R>())),
    }
}

fn message(panic: &(dyn std::any::Any + Send), function: &str) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.map_or_else(
        || format!("{function} panicked with a value that is no text"),
        str::to_owned,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn double(n: u32) -> u32 {
        n * 2
    }

    #[test]
    fn a_name_leads_back_to_the_same_code() {
        let name = Name::of(double).unwrap();
        assert_eq!(
            address(name.function).unwrap(),
            double as fn(u32) -> u32 as usize
        );
    }

    #[test]
    fn a_place_outside_the_programs_code_is_refused() {
        let local = 0_u8;
        let data = (&raw const local as usize).wrapping_sub(anchor()) as u64;
        for forged in [
            data,
            u64::MAX / 2,
            1 << 46,
            (0_usize.wrapping_sub(anchor())) as u64,
        ] {
            assert!(
                matches!(address(forged), Err(Error::ForeignFunction { .. })),
                "{forged:#x}"
            );
        }
    }

    #[test]
    fn a_function_of_another_library_cannot_be_named() {
        // In a program linked dynamically this lies in the C library.
        let foreign = Image::containing(libc_function()).filter(|image| !image.is_code(anchor()));
        if foreign.is_some() {
            assert!(offset(libc_function()).is_err());
        }
    }

    fn libc_function() -> usize {
        extern "C" {
            fn getpid() -> i32;
        }
        getpid as unsafe extern "C" fn() -> i32 as usize
    }
}
