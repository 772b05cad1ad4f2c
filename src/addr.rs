//! The three kinds of address, which must not be mixed, and the one home of their conversions.

use std::fmt;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }

        impl $name {
            /// The address `n` bytes further on, wrapping like the processor does.
            #[must_use]
            pub const fn add(self, n: u64) -> Self {
                Self(self.0.wrapping_add(n))
            }
        }
    };
}

address!(
    /// An address in this process, now.
    RuntimeAddr
);
address!(
    /// An address as the linker gave it: `st_value`, `p_vaddr`, DWARF.
    LinkAddr
);
address!(
    /// An offset in the file, as `uprobe_events` takes it.
    FileOffset
);

/// What the loader added to every link address of one object (`dlpi_addr`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LoadBias(pub u64);

impl LinkAddr {
    /// Where this is in the process, for an object loaded with `bias`.
    #[must_use]
    pub const fn at(self, bias: LoadBias) -> RuntimeAddr {
        RuntimeAddr(self.0.wrapping_add(bias.0))
    }
}

impl RuntimeAddr {
    /// The link address of this place, in an object loaded with `bias`.
    #[must_use]
    pub const fn link(self, bias: LoadBias) -> LinkAddr {
        LinkAddr(self.0.wrapping_sub(bias.0))
    }
}
