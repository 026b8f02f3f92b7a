//! The stack machine that reads.

use crate::builder::Builder;
use crate::error::Error;
use crate::memo::Memo;
use crate::opcode as op;
use crate::source::Source;
use crate::HIGHEST_PROTOCOL;

mod rare;
mod stack;

pub(crate) use stack::room_for_one;

/// How many values' room is kept for the next pickle.
const KEEP: usize = 1 << 12;

/// Reads one pickle after another from a source; what a pickle remembers stays for the next one, as a pickler
/// that writes several into one stream expects.
#[derive(Debug)]
pub struct Decoder<V> {
    stack: Vec<V>,
    /// Where the marks lie: how high the stack was.
    marks: Vec<usize>,
    /// How far down the stack may be used: the topmost mark, or the bottom.
    fence: usize,
    memo: Memo<V>,
    protocol: u8,
}

impl<V> Default for Decoder<V> {
    fn default() -> Self {
        Self {
            stack: Vec::new(),
            marks: Vec::new(),
            fence: 0,
            memo: Memo::new(),
            protocol: 0,
        }
    }
}

impl<V> Decoder<V> {
    /// With nothing remembered.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A decoder that remembers nothing, in the room of this one, for values of any kind.
    #[must_use]
    pub fn emptied<W>(mut self) -> Decoder<W> {
        self.marks.clear();
        Decoder {
            stack: emptied(self.stack),
            marks: self.marks,
            fence: 0,
            memo: self.memo.emptied(),
            protocol: 0,
        }
    }

    /// Which protocol the pickle said it is; 0 and 1 do not say.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// What is remembered, by number.
    pub fn remembered(&self) -> impl Iterator<Item = (u64, &V)> {
        self.memo.iter()
    }

    /// Remembers a value under a number.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn remember(&mut self, number: u64, value: V) -> Result<(), Error> {
        self.memo.put(number, value)
    }

    /// Forgets all that is remembered.
    pub fn forget(&mut self) {
        self.memo.clear();
    }

    /// Reads one pickle. After an error the stack is empty; what was remembered stays.
    ///
    /// # Errors
    /// What is wrong with the pickle, and whatever the source and the builder say.
    pub fn read<S, B>(&mut self, source: &mut S, builder: &mut B) -> Result<V, B::Error>
    where
        S: Source,
        B: Builder<Value = V>,
        B::Error: From<S::Error>,
    {
        self.protocol = 0;
        let result = self.run(source, builder);
        self.stack.clear();
        self.marks.clear();
        self.fence = 0;
        result
    }

    #[allow(clippy::too_many_lines)] // one arm per opcode reads best in one place
    fn run<S, B>(&mut self, source: &mut S, builder: &mut B) -> Result<V, B::Error>
    where
        S: Source,
        B: Builder<Value = V>,
        B::Error: From<S::Error>,
    {
        loop {
            let code = source.byte()?;
            match code {
                op::SHORT_BINUNICODE => {
                    let len = usize::from(argument(source)?);
                    let text = builder.text(source.take(len)?)?;
                    self.push(text)?;
                }
                op::MEMOIZE => {
                    let top = self.top()?;
                    let same = builder.same(top);
                    self.memo.push(same)?;
                }
                op::BINGET => {
                    let number = u64::from(argument(source)?);
                    self.push_remembered(number, builder)?;
                }
                op::LONG_BINGET => {
                    let number = u64::from(u32::from_le_bytes(array(source)?));
                    self.push_remembered(number, builder)?;
                }
                op::BININT1 => {
                    let value = builder.int(i64::from(argument(source)?))?;
                    self.push(value)?;
                }
                op::BININT2 => {
                    let value = builder.int(i64::from(u16::from_le_bytes(array(source)?)))?;
                    self.push(value)?;
                }
                op::BININT => {
                    let value = builder.int(i64::from(i32::from_le_bytes(array(source)?)))?;
                    self.push(value)?;
                }
                op::BINFLOAT => {
                    let value = builder.float(f64::from_be_bytes(array(source)?))?;
                    self.push(value)?;
                }
                op::NONE => self.push(builder.none())?,
                op::NEWTRUE => self.push(builder.boolean(true))?,
                op::NEWFALSE => self.push(builder.boolean(false))?,
                op::MARK => self.mark()?,
                op::EMPTY_DICT => {
                    let dict = builder.dict()?;
                    self.push(dict)?;
                }
                op::EMPTY_LIST => {
                    let list = builder.list(self.stack.drain(self.stack.len()..))?;
                    self.push(list)?;
                }
                op::EMPTY_TUPLE => self.tuple(0, builder)?,
                op::EMPTY_SET => {
                    let set = builder.set()?;
                    self.push(set)?;
                }
                op::TUPLE1 => self.tuple(1, builder)?,
                op::TUPLE2 => self.tuple(2, builder)?,
                op::TUPLE3 => self.tuple(3, builder)?,
                op::TUPLE => {
                    let start = self.unmark()?;
                    self.tuple(self.stack.len() - start, builder)?;
                }
                op::APPEND => {
                    let item = self.pop()?;
                    builder.append(self.top()?, item)?;
                }
                op::APPENDS => {
                    let start = self.unmark()?;
                    if let Some(into) = self.container(start, B::ADDS_NOTHING, builder)? {
                        if builder.is_fresh_list(&into) {
                            let list = builder.full_list(self.stack.drain(start..))?;
                            self.stack[start - 1] = list;
                        } else {
                            builder.extend(&into, self.stack.drain(start..))?;
                        }
                    }
                }
                op::SETITEM => {
                    let start = self.stack.len().saturating_sub(2);
                    self.set_items(start, source, builder)?;
                }
                op::SETITEMS => {
                    let start = self.unmark()?;
                    if (self.stack.len() - start) % 2 != 0 {
                        return Err(Error::OddItems("SETITEMS").into());
                    }
                    self.set_items(start, source, builder)?;
                }
                op::ADDITEMS => {
                    let start = self.unmark()?;
                    if let Some(into) = self.container(start, B::ADDS_NOTHING, builder)? {
                        builder.add_items(&into, self.stack.drain(start..))?;
                    }
                }
                op::BUILD => {
                    let state = self.pop()?;
                    builder.build(self.top()?, state)?;
                }
                op::NEWOBJ => {
                    let arguments = self.pop()?;
                    let class = self.pop()?;
                    let object = builder.new_object(class, arguments)?;
                    self.push(object)?;
                }
                op::REDUCE => {
                    let arguments = self.pop()?;
                    let callable = self.pop()?;
                    let object = builder.reduce(callable, arguments)?;
                    self.push(object)?;
                }
                op::STACK_GLOBAL => {
                    let name = self.pop()?;
                    let module = self.pop()?;
                    let global = builder.stack_global(module, name)?;
                    self.push(global)?;
                }
                op::STOP => return Ok(self.pop()?),
                op::FRAME => {
                    let len = long_length("FRAME length", array(source)?)?;
                    source.frame(len)?;
                }
                op::PROTO => {
                    self.protocol = argument(source)?;
                    if self.protocol > HIGHEST_PROTOCOL {
                        return Err(Error::Protocol(self.protocol).into());
                    }
                    builder.protocol(self.protocol);
                }
                op::BINPUT => {
                    let number = u64::from(argument(source)?);
                    self.put(number, builder)?;
                }
                op::LONG_BINPUT => {
                    let number = u64::from(u32::from_le_bytes(array(source)?));
                    self.put(number, builder)?;
                }
                _ => self.rare(code, source, builder)?,
            }
        }
    }

    /// Puts what lies from `start` on into the dict below; or, where that is only the state of what lies below it,
    /// into that.
    fn set_items<S, B>(
        &mut self,
        start: usize,
        source: &mut S,
        builder: &mut B,
    ) -> Result<(), B::Error>
    where
        S: Source,
        B: Builder<Value = V>,
        B::Error: From<S::Error>,
    {
        let Some(into) = self.container(start, false, builder)? else {
            return Ok(());
        };
        if !builder.is_fresh_dict(&into) {
            return builder.set_items(&into, self.stack.drain(start..));
        }
        if source.starts_with(&[op::TUPLE2, op::BUILD]) && start >= self.fence + 3 {
            source.take(2)?;
            let object = builder.same(&self.stack[start - 3]);
            let state = builder.same(&self.stack[start - 2]);
            builder.build_of_both(&object, state, self.stack.drain(start..))?;
            self.stack.truncate(start - 2);
            return Ok(());
        }
        if source.starts_with(&[op::BUILD]) && start >= self.fence + 2 {
            source.take(1)?;
            let object = builder.same(&self.stack[start - 2]);
            builder.build_of(&object, self.stack.drain(start..))?;
            self.stack.truncate(start - 1);
            return Ok(());
        }
        let dict = builder.full_dict(self.stack.drain(start..))?;
        self.stack[start - 1] = dict;
        Ok(())
    }

    fn tuple<B: Builder<Value = V>>(
        &mut self,
        len: usize,
        builder: &mut B,
    ) -> Result<(), B::Error> {
        let Some(start) = self
            .stack
            .len()
            .checked_sub(len)
            .filter(|start| *start >= self.fence)
        else {
            return Err(self.underflow().into());
        };
        let tuple = builder.tuple(self.stack.drain(start..))?;
        self.push(tuple)?;
        Ok(())
    }
}

/// The room of a vector, unless it is large, for other values: what collects from an empty vector takes its room over.
pub(crate) fn emptied<V, W>(mut values: Vec<V>) -> Vec<W> {
    values.clear();
    if values.capacity() > KEEP {
        return Vec::new();
    }
    values.into_iter().filter_map(|_| None).collect()
}

/// One byte after an opcode.
#[inline]
fn argument<S: Source>(source: &mut S) -> Result<u8, S::Error> {
    Ok(source.take(1)?[0])
}

/// So many bytes after an opcode.
#[inline]
fn array<const LEN: usize, S: Source>(source: &mut S) -> Result<[u8; LEN], S::Error> {
    let bytes = source.take(LEN)?.try_into();
    Ok(bytes.map_err(|_| Error::Truncated)?)
}

fn long_length(what: &'static str, bytes: [u8; 8]) -> Result<usize, Error> {
    // No memory is larger than this, also where more could be counted.
    isize::try_from(u64::from_le_bytes(bytes))
        .map(isize::unsigned_abs)
        .map_err(|_| Error::TooLong(what))
}
