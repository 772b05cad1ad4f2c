//! Models of how threads run: loom's, in which a value may be seen late unless an order forbids it
//! (`tests/weak.rs`), and our own, [`tso`], in which a store waits in its processor's buffer, as on x86-64,
//! until it is written back, fenced, or until membarrier(2) drains every buffer of the process, which loom doesn't
//! know (`tests/store_buffers.rs`). Both run the very source of `src/hit/protocol`.

pub mod tso;
