//! Processes, queues and locks that survive death: bequeath's engine for Rust programs.
