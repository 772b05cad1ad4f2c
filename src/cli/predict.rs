//! How a probe would be made, from the bytes in the file. The library decides the same from
//! the bytes in memory, with the same code; but for what only a process shows: whether there is
//! memory where a jump can lead, and whether the kernel lets code be changed.

use crate::addr::LinkAddr;
use crate::elf::{Bounds, ElfFile, Extent, Resolved, boundary};
use crate::error::{NotOptimized, Refusal};
use crate::insn::{self, MAX_INSN_LEN, Planner, Surroundings, WINDOW_TEXT, Way, WindowRefusal};
use crate::trace::summary::Method;

/// How a place would be probed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prediction {
    /// The way at a breakpoint.
    at_int3: Method,
    /// How many bytes a jump would displace, or why there is none.
    pub jump: Result<usize, NotOptimized>,
}

impl Prediction {
    /// As in the summary.
    pub const fn method(&self) -> Method {
        match self.jump {
            Ok(_) => Method::Jump,
            Err(_) => self.at_int3,
        }
    }

    /// For people: what stands in the text, and the way in brackets.
    pub const fn word(&self) -> &'static str {
        match self.method() {
            Method::Jump => "jump",
            Method::Emulate => "int3 (emulate)",
            Method::Boost => "int3 (boost)",
            Method::Step => "int3 (step)",
        }
    }
}

/// Foretells for the places of one file, best in the order of their addresses.
#[derive(Default)]
pub struct Predictor {
    planner: Planner,
}

impl Predictor {
    /// For a place in a file, which must be the first byte of an instruction of the function whose `bounds` are
    /// given.
    ///
    /// # Errors
    /// Why there can be no probe.
    pub fn at(&mut self, file: &ElfFile, link: LinkAddr, bounds: &Bounds) -> Result<Prediction, Refusal> {
        boundary::check(file, link, bounds)?;
        let at_int3 = match insn::classify(file.bytes_at(link, MAX_INSN_LEN), link.0)?.way {
            Way::Emulate(_) => Method::Emulate,
            // Nothing in a config asks for a second trap.
            Way::Slot(_) => Method::Boost,
        };
        let jump = if file.is_go() {
            Err(NotOptimized::SmallStack)
        } else {
            self.jump(file, link).map_err(NotOptimized::Window)
        };
        Ok(Prediction { at_int3, jump })
    }

    /// The same for a place found by its name or offset.
    ///
    /// # Errors
    /// Why there can be no probe, or not before the object is loaded (an IFUNC).
    pub fn of(&mut self, file: &ElfFile, place: &Resolved) -> Result<Prediction, Refusal> {
        match &place.bounds {
            _ if place.ifunc => Err(Refusal::IfuncNotReady),
            Some(bounds) => self.at(file, place.link, bounds),
            None => Err(Refusal::NotExecutable { offset: place.offset.0 }),
        }
    }

    fn jump(&mut self, file: &ElfFile, link: LinkAddr) -> Result<usize, WindowRefusal> {
        let extent = Extent::at(file, link);
        let surroundings = extent.map(|extent| Surroundings {
            function: extent.start.0,
            text: extent.text,
            code_len: extent.code_len,
            room: extent.room,
        });
        let bytes = file.bytes_at(link, WINDOW_TEXT);
        let window = self.planner.plan(bytes, link.0, surroundings.as_ref())?;
        Ok(window.displaced_len())
    }
}

/// What several probes together change: `places` are all that will be armed in one file, each with whether its
/// config keeps the breakpoint.
pub fn together(places: &mut [(LinkAddr, bool, &mut Prediction)]) {
    places.sort_by_key(|(link, ..)| *link);
    let links: Vec<(LinkAddr, bool)> =
        places.iter().map(|(link, only_int3, _)| (*link, *only_int3)).collect();
    for (link, _, prediction) in places {
        let first = links.partition_point(|(other, _)| other < link);
        let after = links.partition_point(|(other, _)| other <= link);
        let is_asked_for = links[first..after].iter().any(|(_, only_int3)| *only_int3);
        let next = links.get(after).map(|(next, _)| *next);
        prediction.jump = match (&prediction.jump, next) {
            _ if is_asked_for => Err(NotOptimized::AskedFor),
            (Ok(displaced), Some(next)) if next.0 - link.0 < *displaced as u64 => {
                Err(NotOptimized::AnotherProbe { at: next.0 })
            }
            _ => continue,
        };
    }
}
