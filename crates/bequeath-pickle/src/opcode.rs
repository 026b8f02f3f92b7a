//! The opcodes, by the names that `pickletools` gives them.

macro_rules! opcodes {
    ($($name:ident = $code:expr, $what:literal;)*) => {
        $(#[doc = $what] pub const $name: u8 = $code;)*
    };
}

opcodes! {
    MARK = b'(', "Pushes a mark.";
    STOP = b'.', "Every pickle ends with it; the top of the stack is the object.";
    POP = b'0', "Drops the top of the stack, or a mark.";
    POP_MARK = b'1', "Drops everything down to the topmost mark.";
    DUP = b'2', "Pushes the top once more.";
    FLOAT = b'F', "A float as a decimal line.";
    INT = b'I', "An int or bool as a decimal line.";
    BININT = b'J', "A signed int of four bytes.";
    BININT1 = b'K', "An unsigned int of one byte.";
    LONG = b'L', "An int as a decimal line, with an L.";
    BININT2 = b'M', "An unsigned int of two bytes.";
    NONE = b'N', "None.";
    PERSID = b'P', "A persistent id as a line.";
    BINPERSID = b'Q', "A persistent id from the stack.";
    REDUCE = b'R', "Calls a callable with arguments, both from the stack.";
    STRING = b'S', "An old string: a quoted line.";
    BINSTRING = b'T', "An old string, counted by four bytes.";
    SHORT_BINSTRING = b'U', "An old string, counted by one byte.";
    UNICODE = b'V', "Text as a line, raw-unicode-escaped.";
    BINUNICODE = b'X', "UTF-8 text, counted by four bytes.";
    APPEND = b'a', "Appends the top to the list below.";
    BUILD = b'b', "Gives a state to the object below.";
    GLOBAL = b'c', "A global by two lines, module and name.";
    DICT = b'd', "A dict of what is above the topmost mark.";
    EMPTY_DICT = b'}', "An empty dict.";
    APPENDS = b'e', "Appends what is above the topmost mark to the list below it.";
    GET = b'g', "A remembered object, its number as a line.";
    BINGET = b'h', "A remembered object, its number in one byte.";
    INST = b'i', "An instance of the class that two lines name.";
    LONG_BINGET = b'j', "A remembered object, its number in four bytes.";
    LIST = b'l', "A list of what is above the topmost mark.";
    EMPTY_LIST = b']', "An empty list.";
    OBJ = b'o', "An instance of the class that lies on the topmost mark.";
    PUT = b'p', "Remembers the top under a number, a line.";
    BINPUT = b'q', "Remembers the top under a number of one byte.";
    LONG_BINPUT = b'r', "Remembers the top under a number of four bytes.";
    SETITEM = b's', "Puts a key and value into the dict below.";
    TUPLE = b't', "A tuple of what is above the topmost mark.";
    EMPTY_TUPLE = b')', "An empty tuple.";
    SETITEMS = b'u', "Puts keys and values above the topmost mark into the dict below it.";
    BINFLOAT = b'G', "A float of eight bytes, big-endian.";
    PROTO = 0x80, "Which protocol follows.";
    NEWOBJ = 0x81, "`cls.__new__(cls, *args)`.";
    EXT1 = 0x82, "A registered global by a code of one byte.";
    EXT2 = 0x83, "A registered global by a code of two bytes.";
    EXT4 = 0x84, "A registered global by a code of four bytes.";
    TUPLE1 = 0x85, "A tuple of the topmost one.";
    TUPLE2 = 0x86, "A tuple of the topmost two.";
    TUPLE3 = 0x87, "A tuple of the topmost three.";
    NEWTRUE = 0x88, "True.";
    NEWFALSE = 0x89, "False.";
    LONG1 = 0x8a, "An int in two's complement, counted by one byte.";
    LONG4 = 0x8b, "An int in two's complement, counted by four bytes.";
    BINBYTES = b'B', "Bytes, counted by four bytes.";
    SHORT_BINBYTES = b'C', "Bytes, counted by one byte.";
    SHORT_BINUNICODE = 0x8c, "UTF-8 text, counted by one byte.";
    BINUNICODE8 = 0x8d, "UTF-8 text, counted by eight bytes.";
    BINBYTES8 = 0x8e, "Bytes, counted by eight bytes.";
    EMPTY_SET = 0x8f, "An empty set.";
    ADDITEMS = 0x90, "Adds what is above the topmost mark to the set below it.";
    FROZENSET = 0x91, "A frozenset of what is above the topmost mark.";
    NEWOBJ_EX = 0x92, "`cls.__new__(cls, *args, **kwargs)`.";
    STACK_GLOBAL = 0x93, "A global, its module and name from the stack.";
    MEMOIZE = 0x94, "Remembers the top under the next number.";
    FRAME = 0x95, "So many bytes follow that belong together.";
    BYTEARRAY8 = 0x96, "A bytearray, counted by eight bytes.";
    NEXT_BUFFER = 0x97, "The next out-of-band buffer.";
    READONLY_BUFFER = 0x98, "Makes the top read-only.";
}
