//! Real processes, real kills and hang guards for bequeath's own tests.
