//! What a decoder needs of whoever makes the values.

use std::vec::Drain;

use crate::error::Error;
use crate::source::Source;

/// Makes values for a [`Decoder`](crate::Decoder). Bytes that are text are UTF-8 in which surrogates may stand
/// alone, as Python's `surrogatepass` writes them.
pub trait Builder {
    /// One value on the stack. Lists, sets, dicts and objects are filled after they were pushed, maybe
    /// after they were remembered: a value is a reference to such a thing.
    type Value;
    /// What making a value may end in.
    type Error: From<Error>;

    /// The pickle said which protocol it is; names are spelled differently.
    fn protocol(&mut self, _protocol: u8) {}

    /// Whether [`Builder::extend`] and [`Builder::add_items`] are called even when there is nothing to add.
    const ADDS_NOTHING: bool = false;

    /// The same thing once more.
    fn same(&mut self, value: &Self::Value) -> Self::Value;

    /// None.
    fn none(&mut self) -> Self::Value;
    /// A truth value.
    fn boolean(&mut self, value: bool) -> Self::Value;
    /// A small integer.
    fn int(&mut self, value: i64) -> Result<Self::Value, Self::Error>;
    /// An integer, little-endian in two's complement.
    fn long(&mut self, bytes: &[u8]) -> Result<Self::Value, Self::Error>;
    /// An integer as Python's source writes it, which did not fit [`Builder::int`].
    fn long_text(&mut self, text: &[u8]) -> Result<Self::Value, Self::Error>;
    /// A float.
    fn float(&mut self, value: f64) -> Result<Self::Value, Self::Error>;
    /// A float as Python's source writes it.
    fn float_text(&mut self, text: &[u8]) -> Result<Self::Value, Self::Error>;
    /// Text.
    fn text(&mut self, utf8: &[u8]) -> Result<Self::Value, Self::Error>;
    /// Text, raw-unicode-escaped.
    fn text_escaped(&mut self, escaped: &[u8]) -> Result<Self::Value, Self::Error>;
    /// Bytes.
    fn bytes(&mut self, bytes: &[u8]) -> Result<Self::Value, Self::Error>;
    /// Bytes that can be changed.
    fn bytearray(&mut self, bytes: &[u8]) -> Result<Self::Value, Self::Error>;
    /// [`Builder::bytes`], or [`Builder::bytearray`] where they are `mutable`, that the source may copy to where they go.
    ///
    /// # Errors
    /// As those, and the source's.
    fn bytes_from<S: Source>(
        &mut self,
        source: &mut S,
        len: usize,
        mutable: bool,
    ) -> Result<Self::Value, Self::Error>
    where
        Self::Error: From<S::Error>,
    {
        let bytes = source.take(len)?;
        if mutable {
            self.bytearray(bytes)
        } else {
            self.bytes(bytes)
        }
    }
    /// A string of Python 2, of which nobody knows whether it was text.
    fn old_string(&mut self, bytes: &[u8]) -> Result<Self::Value, Self::Error>;

    /// A list.
    fn list(&mut self, items: Drain<'_, Self::Value>) -> Result<Self::Value, Self::Error>;
    /// A tuple.
    fn tuple(&mut self, items: Drain<'_, Self::Value>) -> Result<Self::Value, Self::Error>;
    /// A frozenset.
    fn frozenset(&mut self, items: Drain<'_, Self::Value>) -> Result<Self::Value, Self::Error>;
    /// An empty set.
    fn set(&mut self) -> Result<Self::Value, Self::Error>;
    /// An empty dict.
    fn dict(&mut self) -> Result<Self::Value, Self::Error>;
    /// Appends one item to a list, or to an object that has taken its place.
    fn append(&mut self, list: &Self::Value, item: Self::Value) -> Result<(), Self::Error>;
    /// Appends items.
    fn extend(
        &mut self,
        list: &Self::Value,
        items: Drain<'_, Self::Value>,
    ) -> Result<(), Self::Error>;
    /// Puts keys and values in, by turns; their number is even.
    fn set_items(
        &mut self,
        dict: &Self::Value,
        items: Drain<'_, Self::Value>,
    ) -> Result<(), Self::Error>;
    /// Whether it is an empty list, and nobody but the stack holds it: then one that is made with all its items may
    /// take its place.
    fn is_fresh_list(&self, _value: &Self::Value) -> bool {
        false
    }
    /// The same of a dict.
    fn is_fresh_dict(&self, _value: &Self::Value) -> bool {
        false
    }
    /// A list that takes the place of an empty one.
    fn full_list(&mut self, items: Drain<'_, Self::Value>) -> Result<Self::Value, Self::Error> {
        self.list(items)
    }
    /// A dict of keys and values, by turns.
    fn full_dict(&mut self, items: Drain<'_, Self::Value>) -> Result<Self::Value, Self::Error> {
        let dict = self.dict()?;
        self.set_items(&dict, items)?;
        Ok(dict)
    }
    /// Gives an object a state that is a dict of these keys and values, by turns.
    fn build_of(
        &mut self,
        object: &Self::Value,
        items: Drain<'_, Self::Value>,
    ) -> Result<(), Self::Error> {
        let state = self.full_dict(items)?;
        self.build(object, state)
    }
    /// Gives an object a state that is a pair: this, and a dict of these keys and values, by turns.
    fn build_of_both(
        &mut self,
        object: &Self::Value,
        state: Self::Value,
        items: Drain<'_, Self::Value>,
    ) -> Result<(), Self::Error> {
        let dict = self.full_dict(items)?;
        let pair = self.tuple(vec![state, dict].drain(..))?;
        self.build(object, pair)
    }
    /// Adds items to a set.
    fn add_items(
        &mut self,
        set: &Self::Value,
        items: Drain<'_, Self::Value>,
    ) -> Result<(), Self::Error>;

    /// A global by two lines.
    fn global(&mut self, module: &[u8], name: &[u8]) -> Result<Self::Value, Self::Error>;
    /// A global by two values, which should be texts.
    fn stack_global(
        &mut self,
        module: Self::Value,
        name: Self::Value,
    ) -> Result<Self::Value, Self::Error>;
    /// A global registered under a positive code.
    fn extension(&mut self, code: u32) -> Result<Self::Value, Self::Error>;
    /// `callable(*arguments)`.
    fn reduce(
        &mut self,
        callable: Self::Value,
        arguments: Self::Value,
    ) -> Result<Self::Value, Self::Error>;
    /// `class.__new__(class, *arguments)`.
    fn new_object(
        &mut self,
        class: Self::Value,
        arguments: Self::Value,
    ) -> Result<Self::Value, Self::Error>;
    /// `class.__new__(class, *arguments, **keywords)`.
    fn new_object_with_keywords(
        &mut self,
        class: Self::Value,
        arguments: Self::Value,
        keywords: Self::Value,
    ) -> Result<Self::Value, Self::Error>;
    /// An instance in the manner of Python 2's classes; `arguments` is what [`Builder::tuple`] made.
    fn instance(
        &mut self,
        class: Self::Value,
        arguments: Self::Value,
    ) -> Result<Self::Value, Self::Error>;
    /// Gives an object its state.
    fn build(&mut self, object: &Self::Value, state: Self::Value) -> Result<(), Self::Error>;
    /// What a persistent id stands for.
    fn persistent(&mut self, id: Self::Value) -> Result<Self::Value, Self::Error>;
    /// The next buffer that travelled beside the pickle.
    fn next_buffer(&mut self) -> Result<Self::Value, Self::Error>;
    /// The same buffer, read-only.
    fn readonly(&mut self, buffer: Self::Value) -> Result<Self::Value, Self::Error>;
}
