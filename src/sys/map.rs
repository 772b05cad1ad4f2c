//! A hash map that needs no thread-local storage.
//!
//! std's own seeds its hashes from a thread-local variable, whose first use in a library calls the
//! program's malloc: not where a handler registers a probe inside that very malloc.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::BuildHasherDefault;

/// [`HashMap`] with a fixed seed; our keys are addresses and inodes, nobody's to choose.
pub type FixedHashMap<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;
