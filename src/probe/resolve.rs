//! From requests to instances: which places each loaded object has for each request.

use std::ffi::CString;
use std::sync::atomic::Ordering::*;

use crate::addr::RuntimeAddr;
use crate::elf::{self, ElfFile, Resolved};
use crate::error::Refusal;
use crate::hit::point::ProbePoint;
use crate::place::{ObjectPattern, Target};
use crate::probe::consumers;
use crate::probe::instance::{Instance, Maker, Request};
use crate::probe::modules::{MappedFiles, Module};
use crate::probe::registry::Registry;
use crate::sys;

impl Registry {
    /// Resolves every request in every object it was not resolved in yet.
    pub(super) fn resolve_from(&mut self, first: usize) {
        for number in first..self.requests.len() {
            for index in 0..self.modules.len() {
                self.resolve_in(number, index);
            }
            self.note_missing_object(number);
        }
    }

    /// Whether the object part of a place means `module`, by its path or by its soname.
    fn is_meant(&mut self, pattern: &ObjectPattern, module: &Module) -> bool {
        let same_file = |path: &str| {
            let id = CString::new(path).ok().and_then(|path| sys::file_id(&path).ok());
            id.is_some_and(|id| id.dev == module.id.dev && id.ino == module.id.ino)
        };
        if elf::pattern::object_matches(pattern, &module.path, module.is_exe, &same_file) {
            return true;
        }
        matches!(pattern, ObjectPattern::Name(_))
            && self
                .file(module)
                .is_ok_and(|file| file.soname().is_some_and(|name| elf::pattern::name_matches(pattern, name)))
    }

    /// Whether it looks for no further place: a replacement has one, and its object was not unloaded since.
    fn is_over(&self, request: &Request) -> bool {
        let is_on = |id: &usize| self.instances[*id].as_ref().is_some_and(|instance| instance.enabled);
        request.is_settled_replacement() && request.instances.iter().any(is_on)
    }

    fn note_missing_object(&mut self, number: usize) {
        let Some(request) = self.requests[number].as_mut() else { return };
        if request.resolved.is_empty() && request.refusal.is_none() {
            let object = object_text(&request.place.object);
            request.refusal = Some(Refusal::ObjectNotLoaded { object });
        }
    }

    fn resolve_in(&mut self, number: usize, index: usize) {
        let module = self.modules[index].clone();
        let Some(request) = self.requests[number].as_ref() else { return };
        let key = (module.id, module.bias.0);
        if request.refusal.as_ref().is_some_and(|r| !r.is_pending() && !matches!(r, Refusal::NoSymbol { .. }))
            || request.resolved.contains(&key)
            || self.is_over(request)
        {
            return;
        }
        let place = request.place.clone();
        if !self.is_meant(&place.object, &module) {
            return;
        }
        let found = self.file(&module).and_then(|file| {
            let found = elf::resolve(&place, &file, &MappedFiles)?;
            Ok((file, found))
        });
        let request = self.requests[number].as_mut().expect("checked above");
        request.resolved.push(key);
        match found {
            Ok((file, found)) => {
                request.refusal = None;
                for (at, resolved) in found.iter().enumerate() {
                    self.place_instance(number, &module, &file, resolved, at, found.len());
                }
            }
            // With a pattern for objects, one that lacks the symbol is nothing to report.
            Err(refusal) => {
                if request.instances.is_empty() {
                    request.refusal = Some(refusal);
                }
            }
        }
    }

    /// Finds or makes the instance for one place, and records where it is in memory.
    fn place_instance(
        &mut self,
        number: usize,
        module: &Module,
        file: &ElfFile,
        resolved: &Resolved,
        index: usize,
        of: usize,
    ) {
        let known = self.by_place.get(&(number, module.id, resolved.offset.0)).copied();
        let instance = known.unwrap_or_else(|| self.make_instance(number, module, file, resolved, index, of));
        if self.instances[instance].as_ref().is_some_and(|made| made.is_idle) {
            return;
        }
        let at = resolved.link.at(module.bias);
        let point = if module.is_own {
            Err(Refusal::OwnCode)
        } else if resolved.ifunc {
            self.prepare_ifunc(module, at, resolved.symbol_offset)
        } else {
            self.prepare(module, file, resolved)
        };
        let is_elsewhere = point.as_ref().is_ok_and(|point| self.is_there_already(number, instance, point));
        let Some(instance) = self.instances[instance].as_mut() else { return };
        instance.is_elsewhere = is_elsewhere;
        match point {
            Ok(point) => {
                instance.refusal = None;
                if !is_elsewhere && !instance.points.iter().any(|p| std::ptr::eq(*p, point)) {
                    instance.points.push(point);
                }
            }
            Err(refusal) => instance.refusal = Some(refusal),
        }
    }

    /// Whether another instance of the request is at this point: a pattern that names an IFUNC and what it
    /// chose means one place. What it chooses may be another one the next time (another library's, even), so
    /// the instance stays.
    fn is_there_already(&mut self, number: usize, new: usize, point: &'static ProbePoint) -> bool {
        let other = *self.by_address.entry((number, point.at)).or_insert(new);
        let is_other = other != new
            && self.instances[other]
                .as_ref()
                .is_some_and(|other| other.points.iter().any(|p| std::ptr::eq(*p, point)));
        if !is_other {
            self.by_address.insert((number, point.at), new);
        }
        is_other
    }

    /// Calls the IFUNC's resolver, as the loader did, and prepares what it chose.
    fn prepare_ifunc(
        &mut self,
        module: &Module,
        resolver: RuntimeAddr,
        offset: u64,
    ) -> Result<&'static ProbePoint, Refusal> {
        if !self.is_relocated(module) {
            return Err(Refusal::IfuncNotReady);
        }
        // SAFETY: an IFUNC resolver of a relocated object takes nothing and returns a code address
        // (gABI, STT_GNU_IFUNC); the loader called it the same way.
        let chosen =
            unsafe { std::mem::transmute::<usize, unsafe extern "C" fn() -> u64>(resolver.0 as usize)() };
        self.prepare_address(chosen.wrapping_add(offset))
    }

    /// Makes the instance and its consumer, not alive yet.
    fn make_instance(
        &mut self,
        number: usize,
        module: &Module,
        file: &ElfFile,
        resolved: &Resolved,
        index: usize,
        of: usize,
    ) -> usize {
        let request = self.requests[number].as_ref().expect("resolving it");
        let name = instance_name(request, resolved, index, of);
        let name = self.unique_name(name, number);
        let retirement = &mut self.retirement;
        let request = self.requests[number].as_mut().expect("resolving it");
        let at = request.at.clone();
        let (made, enabled) = match &request.maker {
            Maker::Spec(spec, plugins) => {
                let made = consumers::of_spec(spec, plugins, module, file, resolved, &name, &at);
                (made.map(consumers::keep), spec.enabled)
            }
            Maker::Api(api) => {
                let made = consumers::of_api(*api, || retirement.take_cells(), file, resolved, &name, &at);
                (made.map(|made| Box::into_raw(Box::new(made)).cast_const()), api.starts_enabled())
            }
        };
        let (consumer, refusal) = match made {
            Ok(consumer) => (consumer, None),
            Err(refusal) => (consumers::idle(&request.maker, &name, &at), Some(refusal)),
        };
        let instance = Instance {
            request: number,
            name,
            file: module.id,
            object: module.path.display().to_string(),
            symbol: resolved.symbol.clone(),
            symbol_offset: resolved.symbol_offset,
            link: resolved.link,
            offset: resolved.offset,
            consumer,
            is_idle: refusal.is_some(),
            is_elsewhere: false,
            enabled,
            points: Vec::new(),
            refusal,
        };
        let id = self.instances.len();
        self.by_place.insert((number, module.id, resolved.offset.0), id);
        self.instances.push(Some(instance));
        self.requests[number].as_mut().expect("resolving it").instances.push(id);
        id
    }

    fn unique_name(&mut self, name: String, request: usize) -> String {
        if !matches!(self.requests[request].as_ref().map(|r| &r.maker), Some(Maker::Spec(..))) {
            return name;
        }
        let count = self.next_name.entry(name.clone()).or_insert(0);
        *count += 1;
        if *count == 1 { name } else { format!("{name}_{}", *count - 1) }
    }
}

/// perf's convention: a probe with one place has its own name, the places of a pattern have their
/// functions' names, or the user's with a number.
fn instance_name(request: &Request, resolved: &Resolved, index: usize, of: usize) -> String {
    let is_default = match &request.maker {
        Maker::Spec(spec, _) => spec.name_is_default,
        Maker::Api(_) => false,
    };
    let is_pattern = !matches!(
        &request.place.target,
        Target::Symbol { pattern: crate::place::SymbolPattern::Exact(_), .. } | Target::FileOffset(_)
    );
    match (&resolved.symbol, is_default && is_pattern) {
        (Some(symbol), true) if resolved.symbol_offset == 0 => symbol.clone(),
        (Some(symbol), true) => format!("{symbol}_{:#x}", resolved.symbol_offset),
        _ if of > 1 || !request.instances.is_empty() => {
            let n = request.instances.len().max(index);
            if n == 0 { request.name.clone() } else { format!("{}_{n}", request.name) }
        }
        _ => request.name.clone(),
    }
}

fn object_text(pattern: &ObjectPattern) -> String {
    match pattern {
        ObjectPattern::Exe => "exe".to_owned(),
        ObjectPattern::Path(text) | ObjectPattern::Name(text) | ObjectPattern::Glob(text) => text.clone(),
    }
}

impl Registry {
    /// Instances whose object is not mapped any more are pending again.
    pub(super) fn forget_unmapped(&mut self, now: &[Module]) {
        let gone: Vec<Module> = self
            .modules
            .iter()
            .filter(|old| !now.iter().any(|new| new.id == old.id && new.bias == old.bias))
            .cloned()
            .collect();
        for module in gone {
            let lost = |at: u64| module.contains(RuntimeAddr(at));
            for point in crate::hit::point::all().filter(|point| lost(point.at)) {
                // Unmapped: nothing to restore, and nothing of ours traps there any more.
                point.armed.store(false, Release);
                point.gone.store(true, Release);
                let list = point.consumers.swap(std::ptr::null_mut(), AcqRel);
                self.retirement.retire(list, std::ptr::null_mut());
            }
            for instance in self.instances.iter_mut().flatten() {
                instance.points.retain(|point| !lost(point.at));
            }
            let key = (module.id, module.bias.0);
            for request in self.requests.iter_mut().flatten() {
                request.resolved.retain(|resolved| *resolved != key);
            }
        }
    }
}
