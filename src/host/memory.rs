//! Gives the pages of the program that only the start needed back to the kernel.
#![allow(unsafe_code)]

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
/// 64 KiB, and would count as resident for ever. Returns how many bytes were advised.
pub fn give_back_start_up_pages() -> usize {
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return 0 };
    let Ok(program) = fs::read_link("/proc/self/exe") else { return 0 };
    let given = clean_mappings(&maps, &program.to_string_lossy()).into_iter().filter(give_back);
    given.map(|mapping| mapping.length).sum()
}

fn give_back(mapping: &Mapping) -> bool {
    let Some(start) = NonNull::new(mapping.start as *mut c_void) else { return false };
    // SAFETY: the range is one whole mapping of a file that is private and not writable, and it is either code or the
    // beginning of our own program file (headers and constants), none of which the loader or the program has ever
    // written: it reads from the file what it read before. What the loader wrote and then made read-only is never in it.
    unsafe { madvise(start, mapping.length, MmapAdvise::MADV_DONTNEED) }.is_ok()
}

/// The code of the program and its libraries, and the constants at the beginning of the program's file. A read-only
/// mapping further on may be what the loader relocated.
fn clean_mappings(maps: &str, program: &str) -> Vec<Mapping> {
    maps.lines().filter_map(|line| parse(line, program)).collect()
}

fn parse(line: &str, program: &str) -> Option<Mapping> {
    let mut fields = line.split_whitespace();
    let (range, access, offset) = (fields.next()?, fields.next()?, fields.next()?);
    let path = fields.nth(2)?;
    let at_the_beginning = usize::from_str_radix(offset, 16).ok()? == 0;
    let clean = access == "r-xp" || (access == "r--p" && at_the_beginning);
    if !clean || !path.starts_with('/') || (path != program && access != "r-xp") {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some(Mapping { start, length: end.checked_sub(start)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
        1000-3000 r--p 00000000 fe:00 7 /usr/bin/tidegate\n\
        3000-8000 r-xp 00002000 fe:00 7 /usr/bin/tidegate\n\
        8000-9000 r--p 00007000 fe:00 7 /usr/bin/tidegate\n\
        9000-a000 rw-p 00008000 fe:00 7 /usr/bin/tidegate\n\
        b000-c000 r--p 00000000 fe:00 8 /usr/lib/libc.so.6\n\
        c000-e000 r-xp 00001000 fe:00 8 /usr/lib/libc.so.6\n\
        f000-f100 r-xp 00000000 00:00 0 [vdso]\n\
        d000-e000 rw-p 00000000 00:00 0 \n";

    #[test]
    fn what_the_loader_wrote_and_what_no_file_backs_stays() {
        let ours = clean_mappings(MAPS, "/usr/bin/tidegate");
        let expected = [
            Mapping { start: 0x1000, length: 0x2000 },
            Mapping { start: 0x3000, length: 0x5000 },
            Mapping { start: 0xc000, length: 0x2000 },
        ];
        assert_eq!(ours, expected);
    }

    #[test]
    fn the_program_goes_on_after_giving_back() {
        assert!(give_back_start_up_pages() > 0);
        let text = format!("{:?} {}", clean_mappings(MAPS, "/usr/bin/tidegate"), std::process::id());
        assert!(text.contains("Mapping"));
    }
}
