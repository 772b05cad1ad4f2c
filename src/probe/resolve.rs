//! From requests to instances: which places each loaded object has for each request.

use std::ffi::CString;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::Ordering::*;

use crate::addr::RuntimeAddr;
use crate::config::ProbeSpec;
use crate::elf::{self, ElfFile, Resolved};
use crate::error::Refusal;
use crate::few::Few;
use crate::hit::point::{self, ProbePoint};
use crate::place::{ObjectPattern, Target};
use crate::probe::consumers;
use crate::probe::instance::{Instance, Maker, ModuleKey};
use crate::probe::modules::{MappedFiles, Module};
use crate::probe::registry::Registry;
use crate::probe::request::Request;
use crate::sys::{self, FixedHashMap};

impl Registry {
    /// Resolves every request in every object it was not resolved in yet.
    pub(super) fn resolve_from(&mut self, first: usize) {
        self.path_ids.clear();
        for number in first..self.requests.len() {
            for index in 0..self.modules.len() {
                self.resolve_in(number, index);
            }
            self.note_missing_object(number);
        }
    }

    /// Whether the object part of a place means `module`, by a path that leads to it or by its soname.
    fn is_meant(&mut self, pattern: &ObjectPattern, module: &Module) -> bool {
        if let ObjectPattern::Path(path) = pattern
            && !self.path_ids.contains_key(path)
        {
            let id = CString::new(path.as_str()).ok().and_then(|path| sys::file_id(&path).ok());
            self.path_ids.insert(path.clone(), id.map(|id| (id.dev, id.ino)));
        }
        let same_file = |path: &str| self.path_ids.get(path) == Some(&Some((module.id.dev, module.id.ino)));
        if elf::pattern::object_matches(pattern, &module.path, module.is_exe, &same_file) {
            return true;
        }
        let matches = |path: &Path| elf::pattern::other_path_matches(pattern, path, sys::working_directory);
        let is_named = !matches!(pattern, ObjectPattern::Exe | ObjectPattern::Path(_));
        if is_named && (matches(&module.path) || module.other_paths().iter().any(|path| matches(path))) {
            return true;
        }
        matches!(pattern, ObjectPattern::Name(_))
            && self
                .file(module)
                .is_ok_and(|file| file.soname().is_some_and(|name| elf::pattern::name_matches(pattern, name)))
    }

    /// Whether it looks for no further place: a replacement has one, and its object was not unloaded since.
    fn is_over(&self, request: &Request) -> bool {
        let is_on = |id: &u32| self.instances[*id as usize].as_ref().is_some_and(|instance| instance.enabled);
        request.is_settled_replacement() && request.instances().iter().any(is_on)
    }

    fn note_missing_object(&mut self, number: usize) {
        let is_missing = |request: &Request| request.resolved().is_empty() && request.refusal().is_none();
        if !self.requests[number].as_ref().is_some_and(is_missing) {
            return;
        }
        let object = self.place_of(number).map(|place| object_text(&place.object)).unwrap_or_default();
        if let Some(request) = self.requests[number].as_mut() {
            request.set_refusal(Some(Refusal::ObjectNotLoaded { object }));
        }
    }

    fn resolve_in(&mut self, number: usize, index: usize) {
        let key = self.key_of(index);
        let Some(request) = self.requests[number].as_ref() else { return };
        let is_final =
            |refusal: &Refusal| !refusal.is_pending() && !matches!(refusal, Refusal::NoSymbol { .. });
        if request.refusal().is_some_and(is_final)
            || request.resolved().contains(&key)
            || self.is_over(request)
        {
            return;
        }
        let Some(place) = self.place_of(number) else { return };
        if let (ObjectPattern::Exe, false) = (&place.object, self.modules[index].is_exe) {
            return;
        }
        let place = place.into_owned();
        let module = Rc::clone(&self.modules[index]);
        if !self.is_meant(&place.object, &module) {
            return;
        }
        let found = self.file(&module).and_then(|file| {
            let found = elf::resolve(&place, &file, &MappedFiles)?;
            Ok((file, found))
        });
        let request = self.requests[number].as_mut().expect("checked above");
        request.add_resolved(key);
        match found {
            Ok((file, found)) => {
                request.set_refusal(None);
                let known = self.places_of(number, key);
                self.instances.reserve(found.len());
                point::reserve(found.len());
                for (at, resolved) in found.iter().enumerate() {
                    let known = known.get(&resolved.offset.0).copied();
                    self.place_instance(number, key, &module, &file, resolved, at, found.len(), known);
                }
            }
            // With a pattern for objects, one that lacks the symbol is nothing to report.
            Err(refusal) => {
                if request.instances().is_empty() {
                    request.set_refusal(Some(refusal));
                }
            }
        }
    }

    /// The instances that a request has in a file already, by offset: it was loaded before, or is elsewhere too.
    fn places_of(&self, number: usize, key: ModuleKey) -> FixedHashMap<u64, usize> {
        let file = self.keys[key as usize].file;
        let instances = self.requests[number].iter().flat_map(Request::instances);
        instances
            .filter_map(|id| Some((*id, self.instances[*id as usize].as_ref()?)))
            .filter(|(_, instance)| instance.file == file)
            .map(|(id, instance)| (instance.offset.0, id as usize))
            .collect()
    }

    /// Finds or makes the instance for one place, and records where it is in memory.
    #[expect(clippy::too_many_arguments, reason = "one call")]
    fn place_instance(
        &mut self,
        number: usize,
        key: ModuleKey,
        module: &Module,
        file: &ElfFile,
        resolved: &Resolved,
        index: usize,
        of: usize,
        known: Option<usize>,
    ) {
        let instance =
            known.unwrap_or_else(|| self.make_instance(number, key, module, file, resolved, index, of));
        if self.instances[instance].as_ref().is_none_or(|made| made.is_idle) {
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
        let is_elsewhere =
            point.as_ref().is_ok_and(|point| self.is_there_already(number, instance, resolved.ifunc, point));
        let Some(instance) = self.instances[instance].as_mut() else { return };
        instance.is_elsewhere = is_elsewhere;
        match point {
            Ok(point) => {
                instance.refusal = None;
                instance.is_chosen |= resolved.ifunc;
                if !is_elsewhere && !instance.points.iter().any(|p| std::ptr::eq(*p, point)) {
                    instance.points.push(point);
                }
            }
            Err(refusal) => instance.refusal = Some(Box::new(refusal)),
        }
    }

    /// Whether another instance of the request is at this point: a pattern that names an IFUNC and what it
    /// chose means one place. What it chooses may be another one the next time (another library's, even), so
    /// the instance stays.
    fn is_there_already(
        &mut self,
        number: usize,
        new: usize,
        is_chosen: bool,
        point: &'static ProbePoint,
    ) -> bool {
        let Some(request) = self.requests[number].as_mut() else { return false };
        if is_chosen {
            request.choose();
        }
        if request.instances().len() < 2 || !request.has_chosen() {
            return false;
        }
        request.instances().iter().map(|id| *id as usize).filter(|other| *other != new).any(|other| {
            self.instances[other].as_ref().is_some_and(|other| {
                (is_chosen || other.is_chosen) && other.points.iter().any(|p| std::ptr::eq(*p, point))
            })
        })
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
        if chosen == 0 {
            // glibc's __x86_cpu_features: the loader is to call the resolver for what it does.
            return Err(Refusal::Denied { why: "an IFUNC whose resolver chooses no function" });
        }
        self.prepare_address(chosen.wrapping_add(offset))
    }

    /// Makes the instance and its consumer, not alive yet.
    #[expect(clippy::too_many_arguments, reason = "one call")]
    fn make_instance(
        &mut self,
        number: usize,
        key: ModuleKey,
        module: &Module,
        file: &ElfFile,
        resolved: &Resolved,
        index: usize,
        of: usize,
    ) -> usize {
        let label = self.label_for_consumer(number);
        let request = self.requests[number].as_mut().expect("resolving it");
        let file_number = self.keys[key as usize].file;
        let name = match &request.maker {
            Maker::Spec(spec) => {
                let name = instance_name(&spec.probe, request.instances().len(), resolved, index, of);
                let instances = &self.instances;
                self.names.give(name, || instances.iter().flatten().map(|instance| instance.consumer().name))
            }
            Maker::Api(..) => String::new(),
        };
        let retirement = &mut self.retirement;
        let shelf = &mut self.shelf;
        let (made, enabled) = match &mut request.maker {
            Maker::Spec(spec) => {
                let made = consumers::of_spec(spec, key, module, file, resolved, &name, shelf);
                (made.map(|made| consumers::keep(made, shelf)), spec.probe.enabled)
            }
            Maker::Api(api) => {
                let made = consumers::of_api(*api, label.clone(), || retirement.take_cells(), file, resolved);
                let made = made.map(|made| Box::into_raw(Box::new(made)).cast_const());
                (made, api.starts_enabled())
            }
        };
        let (consumer, refusal) = match made {
            Ok(consumer) => (consumer, None),
            Err(refusal) => {
                (consumers::idle(&request.maker, label, resolved, &name, shelf), Some(Box::new(refusal)))
            }
        };
        let instance = Instance {
            file: file_number,
            offset: resolved.offset,
            consumer,
            points: Few::new(),
            is_idle: refusal.is_some(),
            is_elsewhere: false,
            refusal,
            enabled,
            is_chosen: false,
        };
        let id = self.instances.len();
        request.add_instance(id as u32);
        self.instances.push(Some(instance));
        id
    }
}

/// perf's convention: a probe with one place has its own name, the places of a pattern have their
/// functions' names, or the user's with a number.
fn instance_name(spec: &ProbeSpec, before: usize, resolved: &Resolved, index: usize, of: usize) -> String {
    let is_pattern = !matches!(
        &spec.place.target,
        Target::Symbol { pattern: crate::place::SymbolPattern::Exact(_), .. } | Target::FileOffset(_)
    );
    match (&resolved.symbol, spec.name_is_default && is_pattern) {
        (Some(symbol), true) if resolved.symbol_offset == 0 => symbol.clone(),
        (Some(symbol), true) => format!("{symbol}_{:#x}", resolved.symbol_offset),
        _ if of > 1 || before > 0 => {
            let n = before.max(index);
            if n == 0 { spec.name.clone() } else { format!("{}_{n}", spec.name) }
        }
        _ => spec.name.clone(),
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
    pub(super) fn forget_unmapped(&mut self, now: &[Rc<Module>]) {
        let gone: Vec<usize> = (0..self.modules.len())
            .filter(|index| {
                let old = &self.modules[*index];
                !now.iter().any(|new| new.id == old.id && new.bias == old.bias)
            })
            .collect();
        for index in gone {
            let module = Rc::clone(&self.modules[index]);
            let lost = |at: u64| module.contains(RuntimeAddr(at));
            for point in point::all().filter(|point| lost(point.at)) {
                // Unmapped: nothing to restore, and nothing of ours traps there any more.
                point.armed.store(false, Release);
                point.gone.store(true, Release);
                let list = point.consumers.publish(None);
                for detour in self.shared.detours_of(point) {
                    detour.sole.store(std::ptr::null_mut(), SeqCst);
                }
                self.retirement.retire(list, std::ptr::null_mut());
            }
            for instance in self.instances.iter_mut().flatten() {
                instance.points.retain(|point| !lost(point.at));
            }
            let key = self.key_of(index);
            for request in self.requests.iter_mut().flatten() {
                request.retain_resolved(|resolved| resolved != key);
            }
        }
    }
}
