//! Gives the pages of the program that only the start needed back to the kernel.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::c_void;
use std::fs;
use std::ptr::NonNull;

use nix::sys::mman::{MmapAdvise, madvise};

/// A part of the program file in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mapping {
    start: usize,
    length: usize,
}

/// Unmaps the clean pages of our own program and of its libraries' code; what is used again is mapped again from the page cache, without reading the
/// disk. Parsing arguments and configuration, opening databases and the like touch most of a program once, in windows of
/// 64 KiB, and would count as resident for ever. Returns how many bytes were advised; none where the kernel does not tell what
/// was written (OpenWrt's is built without that).
pub fn give_back_start_up_pages() -> usize {
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return 0 };
    let Ok(written) = fs::read_to_string("/proc/self/smaps") else { return 0 };
    let Ok(program) = fs::read_link("/proc/self/exe") else { return 0 };
    let given = clean_mappings(&maps, &written, &program.to_string_lossy()).into_iter().filter(give_back);
    given.map(|mapping| mapping.length).sum()
}

fn give_back(mapping: &Mapping) -> bool {
    let Some(start) = NonNull::new(mapping.start as *mut c_void) else { return false };
    // SAFETY: the range is one whole mapping of a file that is private and not writable, no page of which was ever written: so
    // the kernel has just said. It reads from the file what it read before. What the loader wrote and then made read-only has
    // pages of its own, and is never in it.
    unsafe { madvise(start, mapping.length, MmapAdvise::MADV_DONTNEED) }.is_ok()
}

/// The code of the program and its libraries, and the constants at the beginning of the program's file, as far as none of their
/// pages was written. An emulator may show one mapping where a real kernel has code and what the loader relocated apart, so the
/// kind of a mapping alone would not do; and it may show its own addresses in the one file and ours in the other, so both have to
/// say the same.
fn clean_mappings(maps: &str, written: &str, program: &str) -> Vec<Mapping> {
    let known: BTreeSet<&str> = maps.lines().map(str::trim_end).collect();
    let mut candidate = None;
    let mut clean = Vec::new();
    for line in written.lines() {
        if let Some(kib) = line.strip_prefix("Anonymous:") {
            clean.extend(candidate.take().filter(|_| kib.trim() == "0 kB"));
        } else if is_first_line(line) {
            candidate = parse(line, program).filter(|_| known.contains(line.trim_end()));
        }
    }
    clean
}

/// What follows are words with a colon.
fn is_first_line(line: &str) -> bool {
    line.split_whitespace().next().is_some_and(|word| !word.ends_with(':'))
}

fn parse(line: &str, program: &str) -> Option<Mapping> {
    let mut fields = line.split_whitespace();
    let (range, access, offset) = (fields.next()?, fields.next()?, fields.next()?);
    let path = fields.nth(2)?;
    let at_the_beginning = usize::from_str_radix(offset, 16).ok()? == 0;
    let unwritten = access == "r-xp" || (access == "r--p" && at_the_beginning);
    if !unwritten || !path.starts_with('/') || (path != program && access != "r-xp") {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some(Mapping { start, length: end.checked_sub(start)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: [(&str, u32); 8] = [
        ("1000-3000 r--p 00000000 fe:00 7 /usr/bin/tidegate", 0),
        ("3000-8000 r-xp 00002000 fe:00 7 /usr/bin/tidegate", 0),
        ("8000-9000 r--p 00007000 fe:00 7 /usr/bin/tidegate", 0),
        ("9000-a000 rw-p 00008000 fe:00 7 /usr/bin/tidegate", 0),
        ("b000-c000 r--p 00000000 fe:00 8 /usr/lib/libc.so.6", 0),
        ("c000-e000 r-xp 00001000 fe:00 8 /usr/lib/libc.so.6", 0),
        ("f000-f100 r-xp 00000000 00:00 0 [vdso]", 0),
        ("d000-e000 rw-p 00000000 00:00 0 ", 8),
    ];

    /// As the kernel writes it, with the KiB of each mapping that were written.
    fn smaps(mappings: &[(&str, u32)]) -> String {
        let one = |(line, written): &(&str, u32)| {
            format!("{line}\nSize:                  8 kB\nAnonymous:  {written:>8} kB\nVmFlags: rd mr mw me\n")
        };
        mappings.iter().map(one).collect()
    }

    fn maps(mappings: &[(&str, u32)]) -> String {
        mappings.iter().map(|(line, _)| format!("{line}\n")).collect()
    }

    fn clean(mappings: &[(&str, u32)]) -> Vec<Mapping> {
        clean_mappings(&maps(mappings), &smaps(mappings), "/usr/bin/tidegate")
    }

    #[test]
    fn what_the_loader_wrote_and_what_no_file_backs_stays() {
        let ours = clean(&MAPS);
        let expected = [
            Mapping { start: 0x1000, length: 0x2000 },
            Mapping { start: 0x3000, length: 0x5000 },
            Mapping { start: 0xc000, length: 0x2000 },
        ];
        assert_eq!(ours, expected);
    }

    #[test]
    fn code_that_is_shown_as_one_with_what_the_loader_relocated_stays() {
        let merged = [("1000-9000 r-xp 00000000 fe:00 7 /usr/bin/tidegate", 4), MAPS[5]];
        assert_eq!(clean(&merged), [Mapping { start: 0xc000, length: 0x2000 }]);
    }

    #[test]
    fn what_an_emulator_shows_at_its_own_addresses_stays() {
        let ours = MAPS.map(|(line, written)| (line.replacen("1000-", "41000-", 1), written));
        let ours: Vec<(&str, u32)> = ours.iter().map(|(line, written)| (line.as_str(), *written)).collect();
        let clean = clean_mappings(&maps(&ours), &smaps(&MAPS), "/usr/bin/tidegate");
        assert!(!clean.contains(&Mapping { start: 0x1000, length: 0x2000 }), "{clean:?}");
    }

    #[test]
    fn the_program_goes_on_after_giving_back() {
        assert!(give_back_start_up_pages() > 0);
        let text = format!("{:?} {}", clean(&MAPS), std::process::id());
        assert!(text.contains("Mapping"));
    }
}
