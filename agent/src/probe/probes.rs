//! Probes on libraries: which functions of a library's file are probed, where, and with what meaning. A library is probed once, by its
//! file, whatever number of processes use it and by whichever path.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use aya::programs::ProgramError;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLinkId, UProbeScope};

use super::functions::{FUNCTIONS, Function, Hop, Library, OF_CONNECTION, Operation, Role, TYPE_OF_KEY};
use super::kernel::{Kernel, reason};
use super::layout::{CALL_ENCLOSES, Call, NO_ARGUMENT, NO_OFFSET, SPOT_CODE};
use super::library::{Symbol, symbols};

/// Probes that the kernel's table holds.
const PROBES_MAX: usize = 1_024;

/// A probe.
#[derive(Debug)]
pub struct Probe {
    /// The row it is of.
    pub function: &'static Function,
    /// The library's number.
    pub library: usize,
    /// The kernel need not single-step for it.
    pub is_cheap: bool,
    /// Kernel programs, and where in the file.
    spots: Vec<(&'static str, u64)>,
    links: Vec<(&'static str, UProbeLinkId)>,
}

impl Probe {
    /// Whether it is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.links.is_empty()
    }

    /// Whether its end is probed as well.
    #[must_use]
    pub fn is_bracketed(&self) -> bool {
        self.spots.iter().any(|(program, _)| AT_RETURN.contains(program))
    }

    /// `symbols` are the functions of all probes, by number.
    fn attach(&mut self, kernel: &mut Kernel, number: u32, file: &File, symbols: &[&str]) -> Result<(), String> {
        for (program, at) in &self.spots {
            let link = attach_one(kernel, program, (number, self.function.symbol), *at, file, symbols)?;
            self.links.push((program, link));
        }
        Ok(())
    }

    fn detach(&mut self, kernel: &mut Kernel) {
        for (program, link) in self.links.drain(..) {
            if let Ok(program) = kernel.on_function(program) {
                let _ = program.detach(link);
            }
        }
    }
}

/// All probes, by their number.
#[derive(Debug, Default)]
pub struct Probes {
    probes: Vec<Probe>,
    /// Numbers of libraries that were let go, oldest first: what was counted under them was told meanwhile.
    free: VecDeque<usize>,
}

impl Probes {
    /// Probes a library's file. Gives what could not be probed, and why.
    ///
    /// # Errors
    /// Nothing of it can be probed.
    pub fn attach(&mut self, kernel: &mut Kernel, library: Library, number: usize, file: &File) -> Result<Vec<(String, String)>, String> {
        let rows = || FUNCTIONS.iter().filter(|function| function.library == library);
        let named = |name: &str, hops: &[Hop]| hops.iter().any(|hop| hop.contains(&name));
        let is_wanted = |name: &str| {
            rows().any(|row| row.symbol == name || named(name, row.hops)) || named(name, &[TYPE_OF_KEY]) || named(name, &OF_CONNECTION) || name == UP_REF
        };
        let symbols = symbols(file, is_wanted)?;
        let mut faults = Vec::new();
        for row in rows() {
            let Some(symbol) = symbols.get(row.symbol) else { continue };
            if let Err(fault) = self.probe(kernel, row, number, symbol, &symbols, file) {
                faults.push((row.symbol.to_owned(), fault));
            }
        }
        Ok(faults)
    }

    fn probe(
        &mut self,
        kernel: &mut Kernel,
        row: &'static Function,
        library: usize,
        symbol: &Symbol,
        symbols: &HashMap<String, Symbol>,
        file: &File,
    ) -> Result<(), String> {
        let number = match self.probes.len() {
            len if len < PROBES_MAX => len,
            _ => *self.free.front().ok_or_else(|| format!("there are {PROBES_MAX} probes already"))?,
        };
        let spot = symbol.spot_for(is_bracketed(row));
        let cookie = u32::try_from(number).unwrap_or(u32::MAX);
        kernel.set_call(cookie, &call(row, symbol, symbols)?)?;
        // What a function returns is caught at its beginning.
        let place = |program: &&'static str| (*program, if AT_RETURN.contains(program) { symbol.offset } else { symbol.offset + spot.at });
        let spots = programs(row).iter().map(place).collect();
        let mut probe = Probe { function: row, library, is_cheap: spot.is_cheap, spots, links: Vec::new() };
        if let Err(fault) = probe.attach(kernel, cookie, file, &self.symbols()) {
            probe.detach(kernel);
            return Err(fault);
        }
        match self.probes.get_mut(number) {
            Some(slot) => {
                *slot = probe;
                self.free.pop_front();
            }
            None => self.probes.push(probe),
        }
        Ok(())
    }

    /// The operation that a probe stands for.
    #[must_use]
    pub fn operation(&self, number: u32) -> Option<Operation> {
        match self.get(number)?.function.role {
            Role::Uses(operation) => Some(operation),
            Role::Shakes => Some(Operation::Handshake),
            Role::Returns | Role::Fills | Role::Passes | Role::Frees => None,
        }
    }

    /// A probe.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&Probe> {
        self.probes.get(usize::try_from(number).ok()?)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Probe] {
        &self.probes
    }

    fn symbols(&self) -> Vec<&'static str> {
        self.probes.iter().map(|probe| probe.function.symbol).collect()
    }

    /// Takes a probe away for a while: it costs too much.
    pub fn pause(&mut self, kernel: &mut Kernel, number: usize) {
        if let Some(probe) = self.probes.get_mut(number) {
            probe.detach(kernel);
        }
    }

    /// Puts it back.
    ///
    /// # Errors
    /// The kernel's.
    pub fn resume(&mut self, kernel: &mut Kernel, number: usize, file: &File) -> Result<(), String> {
        let (symbols, cookie) = (self.symbols(), u32::try_from(number).unwrap_or(u32::MAX));
        self.probes.get_mut(number).filter(|probe| !probe.is_on()).map_or(Ok(()), |probe| probe.attach(kernel, cookie, file, &symbols))
    }

    /// Takes the probes of a library away: nobody uses it any more. What they counted is to be told before.
    pub fn detach(&mut self, kernel: &mut Kernel, library: usize) {
        for (number, probe) in self.probes.iter_mut().enumerate().filter(|(_, probe)| probe.library == library) {
            probe.detach(kernel);
            self.free.push_back(number);
        }
    }
}

/// Bytes of the instruction that the kernel puts in place of the function's own.
const BREAKPOINT: u64 = if cfg!(target_arch = "x86_64") { 1 } else { 4 };

fn attach_one(
    kernel: &mut Kernel,
    program: &'static str,
    (number, symbol): (u32, &str),
    at: u64,
    file: &File,
    symbols: &[&str],
) -> Result<UProbeLinkId, String> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let location = || UProbeAttachLocation::AbsoluteOffset(at);
    if kernel.has_cookies {
        let point = UProbeAttachPoint { location: location(), cookie: Some(number.into()) };
        match kernel.on_function(program)?.attach(point, &path, UProbeScope::AllProcesses) {
            Err(ProgramError::AttachCookieNotSupported) => kernel.has_cookies = false,
            attached => return attached.map_err(|e| reason(&e)),
        }
    }
    // What is caught where a function returns needs no number.
    if !AT_RETURN.contains(&program) {
        let mut code = [0; SPOT_CODE];
        file.read_exact_at(&mut code, at + BREAKPOINT).map_err(|e| format!("it cannot be read: {e}"))?;
        let other = kernel.set_spot(number, at, &code)?.and_then(|other| symbols.get(usize::try_from(other).ok()?));
        // A copy of the same library is another matter.
        if other.is_some_and(|other| *other != symbol) {
            return Err("to a kernel as old as this (before 5.15) it looks like another function".to_owned());
        }
    }
    kernel.on_function(program)?.attach(location(), &path, UProbeScope::AllProcesses).map_err(|e| reason(&e))
}

const UP_REF: &str = "EVP_PKEY_up_ref";
const AT_RETURN: [&str; 3] = ["key_returned", "key_done", "handshake_returned"];

/// The kernel programs for a row: at the function's beginning, and at its end.
fn programs(row: &Function) -> &'static [&'static str] {
    match row.role {
        Role::Uses(_) if is_bracketed(row) => &["key_used", "key_done"],
        Role::Uses(_) => &["key_used"],
        Role::Returns => &["key_returned"],
        Role::Fills => &["key_filled"],
        Role::Passes => &["key_passed"],
        Role::Frees => &["key_freed"],
        Role::Shakes => &["handshake_called", "handshake_returned"],
    }
}

/// Whether its beginning and end are both probed, and what it returns to matters. A probe on the end changes that address in memory, so
/// the other must be where it is still the caller's: on the very first instruction.
fn is_bracketed(row: &Function) -> bool {
    row.flags & CALL_ENCLOSES != 0
}

/// What the probe's arguments mean in this library.
///
/// # Errors
/// The library does not say where what is needed lies.
fn call(row: &Function, symbol: &Symbol, symbols: &HashMap<String, Symbol>) -> Result<Call, String> {
    let field = |hop: Hop| hop.iter().find_map(|name| symbols.get(*name)).and_then(Symbol::field);
    let spot = symbol.spot_for(is_bracketed(row));
    let at = i64::try_from(spot.at).unwrap_or_default();
    let near = |end: i64| i32::try_from(end - at).map_err(|_| "its text is too large".to_owned());
    let mut offsets = [NO_OFFSET; 8];
    for (slot, hop) in offsets.iter_mut().zip(row.hops) {
        *slot = field(hop).ok_or_else(|| format!("it does not say what {} reads", hop.join(" or ")))?;
    }
    match row.role {
        Role::Uses(_) => offsets[2] = field(TYPE_OF_KEY).filter(|_| row.object != NO_ARGUMENT && is_key(row)).unwrap_or(NO_OFFSET),
        Role::Frees => offsets[3] = symbols.get(UP_REF).and_then(Symbol::references).ok_or("it does not say where references are counted")?,
        Role::Shakes => {
            for (slot, hop) in offsets[4..].iter_mut().zip(OF_CONNECTION) {
                *slot = field(hop).unwrap_or(NO_OFFSET);
            }
        }
        Role::Returns | Role::Fills | Role::Passes => {}
    }
    let passed = if row.role == Role::Passes { row.other } else { NO_ARGUMENT };
    let other = if row.role == Role::Passes { NO_ARGUMENT } else { row.other };
    Ok(Call { flags: row.flags, text: (near(symbol.text.0)?, near(symbol.text.1)?), pushed: spot.pushed, arguments: [row.object, other, passed], offsets })
}

/// Whether the object is a key of OpenSSL's general form, which knows its type.
fn is_key(row: &Function) -> bool {
    row.library == Library::Crypto && row.symbol.starts_with("EVP_")
}
