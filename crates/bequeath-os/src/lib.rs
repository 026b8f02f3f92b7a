//! The kernel's vocabulary for bequeath: futexes, memory files, mappings, pidfds, sockets with descriptors; safe and owned.
