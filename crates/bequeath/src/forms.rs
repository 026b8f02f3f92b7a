//! In which forms handles and descriptors stand in a message: as Python writes them, so that either side reads the other's.
//!
//! A form is the name of a function or class of the Python package, and the place of the number that the message's
//! objects or descriptors have. Rust calls none of them. What Rust writes itself is one call each.

use bequeath_pickle::{Call, Object, Part};

/// Where the number is, or an object that has it.
#[derive(Clone, Copy)]
pub(crate) enum At {
    Argument(usize),
    State(usize),
}

type Form = (&'static str, &'static str, At);

/// What shared objects are made by.
pub(crate) const OBJECTS: &[Form] = &[
    ("bequeath._engine", "shared_object", At::Argument(0)),
    ("bequeath._engine", "rebuild_synchronized", At::Argument(1)),
    ("bequeath._engine", "rebuild_shared_bytes", At::Argument(0)),
    ("bequeath.queues", "Queue", At::State(1)),
    ("bequeath.queues", "JoinableQueue", At::State(1)),
    ("bequeath.queues", "SimpleQueue", At::State(0)),
    ("bequeath.heap", "BufferWrapper", At::State(1)),
    ("bequeath.sharedctypes", "rebuild_ctype", At::Argument(1)),
];

/// What has a descriptor is made by.
pub(crate) const DESCRIPTORS: &[Form] = &[
    ("bequeath._files", "opened", At::Argument(0)),
    ("bequeath._files", "_raw", At::Argument(0)),
    ("bequeath._files", "_buffered", At::Argument(1)),
    ("bequeath._files", "_text", At::Argument(0)),
    ("bequeath._engine", "_rebuild_connection", At::Argument(1)),
    ("bequeath.reduction", "_rebuild_socket", At::Argument(0)),
    ("bequeath.resource_sharer", "_rebuild", At::Argument(0)),
];

/// A shared object as Rust writes it.
pub(crate) const fn object(number: u32) -> Call<(u32,)> {
    Call {
        module: "bequeath._engine",
        name: "shared_object",
        arguments: (number,),
    }
}

/// A descriptor as Rust writes it.
pub(crate) const fn descriptor(number: u32) -> Call<(u32,)> {
    Call {
        module: "bequeath._files",
        name: "opened",
        arguments: (number,),
    }
}

/// The number that an object of one of these forms has.
pub(crate) fn number_of(mut object: &Object, forms: &[Form]) -> Option<usize> {
    loop {
        let form = |(module, name, _): &&Form| object.module == *module && object.name == *name;
        let part = match forms.iter().find(form)?.2 {
            At::Argument(index) => object.arguments.get(index)?,
            At::State(index) => object.state.get(index)?,
        };
        match part {
            Part::Number(number) => return usize::try_from(*number).ok(),
            Part::Object(inside) => object = inside,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_where_its_form_has_it_and_nowhere_else() {
        let made = |module: &str, name: &str, arguments| Object {
            module: module.to_owned(),
            name: name.to_owned(),
            arguments,
            state: vec![Part::Number(9)],
        };
        let inside = made(
            "bequeath.resource_sharer",
            "_rebuild",
            vec![Part::Number(4)],
        );
        let file = made(
            "bequeath._files",
            "_raw",
            vec![Part::Object(inside.clone())],
        );
        assert_eq!(number_of(&file, DESCRIPTORS), Some(4));
        assert_eq!(number_of(&file, OBJECTS), None);
        let queue = made("bequeath.queues", "SimpleQueue", vec![Part::Number(1)]);
        assert_eq!(number_of(&queue, OBJECTS), Some(9));
        for part in [Part::Number(-1), Part::Other, Part::Object(inside)] {
            let hostile = made("bequeath._engine", "shared_object", vec![part]);
            assert_eq!(number_of(&hostile, OBJECTS), None);
        }
        assert_eq!(number_of(&made("os", "system", Vec::new()), OBJECTS), None);
    }
}
