//! Rules about the source tree that the compiler cannot check.
