//! What threads do to each other without a lock, each algorithm apart from where its words lie: so the very
//! same source is run through every interleaving in `tests/interleavings/`, where `crate::sys::atomic` is not the
//! processor's but a model's, and where each of its orders and fences is taken away once to see the
//! model fail.
//!
//! | here | who | what must hold |
//! | --- | --- | --- |
//! | [`address_table`] | lookup by address, while places are added | a place once added is found, whole |
//! | [`cell_count`] | cells handed out, while a thread makes its array | no index outside an array |
//! | [`definition`] | an id, and a length, from two threads | whoever is second makes the word |
//! | [`free_list`] | blocks taken and given back | nobody has another's block |
//! | [`grace`] | a hit, and who takes away what it may read | nothing is freed under a reader |
//! | [`only_thread`] | counting without locked instructions while there is one thread | no count is lost |
//! | [`record`] | the trace, read at any moment | a word that is there is in front of a whole record |

pub mod address_table;
pub mod cell_count;
pub mod definition;
pub mod free_list;
pub mod grace;
pub mod only_thread;
pub mod record;
