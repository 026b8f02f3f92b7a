//! What can be wrong with a pickle.

/// [`Error`] unless said otherwise.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why bytes are not a pickle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes ended where an opcode should stand.
    #[error("the pickle has no end")]
    Ended,
    /// The bytes ended inside an opcode's argument.
    #[error("the pickle was truncated")]
    Truncated,
    /// An opcode wants more of the stack than there is.
    #[error("unpickling stack underflow")]
    Underflow,
    /// A mark lies where a value should.
    #[error("unexpected MARK found")]
    UnexpectedMark,
    /// No mark lies on the stack.
    #[error("could not find MARK")]
    NoMark,
    /// No opcode has this code.
    #[error("no opcode has the code {0:#04x}")]
    Opcode(u8),
    /// Nothing was remembered under this number.
    #[error("memo value not found at index {0}")]
    NotRemembered(u64),
    /// A number to remember under is negative.
    #[error("negative PUT argument")]
    NegativePut,
    /// A length is negative.
    #[error("{0} pickle has negative byte count")]
    NegativeLength(&'static str),
    /// A length is larger than memory can be.
    #[error("{0} exceeds the largest size of memory")]
    TooLong(&'static str),
    /// A newer protocol than this crate knows.
    #[error("unsupported pickle protocol: {0}")]
    Protocol(u8),
    /// Keys and values do not pair up.
    #[error("odd number of items for {0}")]
    OddItems(&'static str),
    /// A line should hold a number and does not.
    #[error("{0} needs a number")]
    NotANumber(&'static str),
    /// An old string is not quoted.
    #[error("the STRING opcode argument must be quoted")]
    NotQuoted,
    /// An old string has a broken escape.
    #[error("the STRING opcode argument has an invalid escape")]
    BadEscape,
    /// Codes of registered globals are positive.
    #[error("EXT specifies code <= 0")]
    ExtensionCode,
    /// A persistent id of protocol 0 is text of ASCII.
    #[error("persistent IDs in protocol 0 must be ASCII strings")]
    PersistentNotAscii,
    /// Only a reader that executes what a pickle names could make this value.
    #[error("{0} is not plain data")]
    NotPlain(&'static str),
    /// Text holds surrogates that stand alone, or is not UTF-8.
    #[error("text that is not Unicode")]
    NotUnicode,
    /// Nested deeper, or shared more often, than a reader of plain data follows.
    #[error("{0}")]
    TooMuch(&'static str),
    /// There is no memory for so many values more.
    #[error("no memory for {0} values more")]
    NoMemory(usize),
    /// What serde says.
    #[error("{0}")]
    Custom(String),
}
