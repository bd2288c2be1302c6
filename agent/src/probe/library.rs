//! A library's file: where its functions and its text lie. Read by need, never whole, as libraries are megabytes.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::functions::Library;
use crate::parse::elf::{self, HEADER, Part, Text};
use crate::parse::prologue::{CODE_BYTES, Spot, field_offset, reference_offset, spot};

/// A function.
#[derive(Debug, Clone)]
pub struct Symbol {
    /// Where it lies in the file.
    pub offset: u64,
    /// Where from its beginning on the library's text begins and ends.
    pub text: (i64, i64),
    code: Vec<u8>,
}

impl Symbol {
    /// One of these instructions, wherever it lies.
    #[must_use]
    pub fn of_code(code: Vec<u8>) -> Self {
        Self { offset: 0, text: (0, 0), code }
    }

    /// How far behind its beginning it is probed.
    #[must_use]
    pub fn probed_at(&self) -> u64 {
        self.spot_for(false).at
    }

    /// Where to probe it: where that is cheap, or on its first instruction.
    pub(crate) fn spot_for(&self, at_first: bool) -> Spot {
        let spot = spot(&self.code);
        if at_first && spot.at > 0 { Spot::START } else { spot }
    }

    /// The offset of the field that it hands out, where that is all it does.
    #[must_use]
    pub fn field(&self) -> Option<u16> {
        field_offset(&self.code)
    }

    /// The offset of the count of references that it adds to.
    #[must_use]
    pub fn references(&self) -> Option<u16> {
        reference_offset(&self.code)
    }
}

/// Finds functions by name.
///
/// # Errors
/// What is wrong with the file, for people.
pub fn symbols(file: &File, is_wanted: impl Fn(&str) -> bool) -> Result<HashMap<String, Symbol>, String> {
    let plan = elf::plan(&read(file, Part { offset: 0, len: HEADER })?)?;
    let texts = elf::texts(&read(file, plan.segments)?);
    let mut found = HashMap::new();
    for table in elf::tables(&read(file, plan.sections)?) {
        let (symbols, names) = (read(file, table.symbols)?, read(file, table.names)?);
        let mut addresses = Vec::new();
        elf::functions(&symbols, &names, |name, address| {
            if is_wanted(name) {
                addresses.push((name, address));
            }
        });
        for (name, address) in addresses {
            let text = texts.iter().find(|text| (text.address..text.address + text.len).contains(&address));
            if let Some(text) = text.filter(|_| !found.contains_key(name)) {
                found.insert(name.to_owned(), symbol(file, text, address)?);
            }
        }
    }
    Ok(found)
}

/// Which families of libraries a file has the functions of: it may be called anything, and a program may bring several.
///
/// # Errors
/// What is wrong with the file, for people.
pub fn families(file: &File) -> Result<Vec<Library>, String> {
    let is_mark = |name: &str| Library::ALL.iter().any(|(_, _, marks)| marks.contains(&name));
    let found = symbols(file, is_mark)?;
    Ok(Library::ALL.into_iter().filter(|(_, _, marks)| marks.iter().all(|mark| found.contains_key(*mark))).map(|(library, ..)| library).collect())
}

/// What a section of the file holds, its first bytes where it is larger than `most`; `None` where there is no such section.
#[must_use]
pub fn section(file: &File, name: &str, most: usize) -> Option<Vec<u8>> {
    let header = read(file, Part { offset: 0, len: HEADER }).ok()?;
    let sections = read(file, elf::plan(&header).ok()?.sections).ok()?;
    let names = read(file, elf::section_names(&header, &sections)?).ok()?;
    let part = elf::section(&sections, &names, name)?;
    read(file, Part { offset: part.offset, len: part.len.min(most) }).ok()
}

fn symbol(file: &File, text: &Text, address: u64) -> Result<Symbol, String> {
    let (offset, left) = (address - text.address + text.offset, text.address + text.len - address);
    let len = usize::try_from(left).map_or(CODE_BYTES, |left| left.min(CODE_BYTES));
    let from = |end: u64| end.wrapping_sub(address).cast_signed();
    Ok(Symbol { offset, text: (from(text.address), from(text.address + text.len)), ..Symbol::of_code(read(file, Part { offset, len })?) })
}

/// Reads a part whose size is bounded; nothing is taken of memory for what is not in the file.
fn read(file: &File, part: Part) -> Result<Vec<u8>, String> {
    let fault = |e: io::Error| format!("it cannot be read: {e}");
    let size = file.metadata().map_err(fault)?.len();
    let is_inside = part.offset.checked_add(part.len as u64).is_some_and(|end| end <= size);
    if !is_inside {
        return Err("it is cut short, or its tables lie".to_owned());
    }
    let mut bytes = vec![0; part.len];
    file.read_exact_at(&mut bytes, part.offset).map_err(fault)?;
    Ok(bytes)
}
