//! The download and stream worker.
