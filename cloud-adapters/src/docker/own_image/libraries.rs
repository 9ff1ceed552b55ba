//! The shared libraries of a program, as the program's own loader finds them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use crate::AdapterError;

/// How long the loader may take to say what it would load: it maps a few files.
const LOADER_TIMEOUT: Duration = Duration::from_secs(20);

/// The type of the program header that names the loader (elf(5)).
const PT_INTERP: u32 = 3;

/// The longest path that a loader may have: what the system takes as a path.
const PATH_MAX: u64 = 4096;

/// The loader of a program and all that it would load, as absolute paths; empty for a static program.
///
/// # Errors
/// [`AdapterError::BadConfiguration`] for what is no program, or lacks a library here too.
pub async fn libraries_of(program: &Path) -> Result<Vec<PathBuf>, AdapterError> {
    let shown = program.display();
    let loader = loader_of(program).map_err(|error| {
        AdapterError::bad_configuration(format!("{shown} is no program to make an image of")).because(error)
    })?;
    let Some(loader) = loader else { return Ok(Vec::new()) };
    let mut asked = Command::new(&loader);
    // What this process was told to load in addition is not the program's.
    asked.arg("--list").arg(program).env_remove("LD_PRELOAD").env_remove("LD_LIBRARY_PATH").kill_on_drop(true);
    let failed = |why: String| AdapterError::bad_configuration(format!("cannot tell the libraries of {shown}: {why}"));
    let answer = match tokio::time::timeout(LOADER_TIMEOUT, asked.output()).await {
        Ok(answer) => answer.map_err(|error| failed(format!("{} does not start: {error}", loader.display())))?,
        Err(_) => return Err(AdapterError::transient(format!("{} took too long to answer", loader.display()))),
    };
    if !answer.status.success() {
        return Err(failed(String::from_utf8_lossy(&answer.stderr).trim().to_owned()));
    }
    let mut paths = listed(&String::from_utf8_lossy(&answer.stdout)).map_err(failed)?;
    paths.push(loader);
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// The paths in what a loader lists: `libc.so.6 => /lib/libc.so.6 (0x…)`, or a path alone; what the kernel maps has none.
fn listed(text: &str) -> Result<Vec<PathBuf>, String> {
    let mut paths = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let found = line.split_once("=>").map_or(line, |(_, found)| found.trim());
        if found.starts_with("not found") {
            return Err(line.to_owned());
        }
        let path = found.split(" (0x").next().unwrap_or(found);
        if path.starts_with('/') {
            paths.push(PathBuf::from(path));
        }
    }
    Ok(paths)
}

/// The loader that an ELF program names; `None` for a static one. Little-endian and 64 bits, as every target of ours is.
fn loader_of(program: &Path) -> io::Result<Option<PathBuf>> {
    let mut file = File::open(program)?;
    let mut header = [0; 64];
    file.read_exact(&mut header)?;
    if &header[..6] != b"\x7fELF\x02\x01" {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a 64-bit little-endian ELF file"));
    }
    let (table, size, count) = (u64_at(&header, 32), u16_at(&header, 54), u16_at(&header, 56));
    let mut entry = [0; 56];
    for index in 0..u64::from(count) {
        file.seek(SeekFrom::Start(table.saturating_add(index * u64::from(size))))?;
        file.read_exact(&mut entry)?;
        if u32_at(&entry, 0) == PT_INTERP {
            let (offset, length) = (u64_at(&entry, 8), u64_at(&entry, 32));
            return read_path(&mut file, offset, length).map(Some);
        }
    }
    Ok(None)
}

fn read_path(file: &mut File, offset: u64, length: u64) -> io::Result<PathBuf> {
    file.seek(SeekFrom::Start(offset))?;
    let mut path = String::new();
    file.take(length.min(PATH_MAX)).read_to_string(&mut path)?;
    Ok(PathBuf::from(path.trim_end_matches('\0')))
}

/// Numbers of the file; all that are asked for lie within the blocks above.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|part| part.try_into().ok()).map_or(0, u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|part| part.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_very_test_finds_its_loader_and_its_c_library() {
        let this = std::env::current_exe().expect("a path");
        let libraries = libraries_of(&this).await.expect("libraries");
        assert!(libraries.iter().any(|path| path.to_string_lossy().contains("libc.so")), "{libraries:?}");
        assert!(libraries.iter().any(|path| path.to_string_lossy().contains("/ld-")), "{libraries:?}");
        assert!(libraries.iter().all(|path| path.is_absolute() && path.exists()), "{libraries:?}");
    }

    #[tokio::test]
    async fn what_is_no_program_is_told_as_such() {
        let home = tempfile::tempdir().expect("a directory");
        let script = home.path().join("script");
        for text in ["", "#!/bin/sh\n", &"x".repeat(100)] {
            std::fs::write(&script, text).expect("write");
            let error = libraries_of(&script).await.expect_err("it is no ELF file");
            assert!(error.to_string().contains("is no program"), "{error}");
        }
    }

    #[test]
    fn a_loaders_list_is_read() {
        let text =
            "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f)\n\t/lib64/ld.so (0x7f)\n";
        assert_eq!(listed(text).expect("paths"), [PathBuf::from("/lib/x/libc.so.6"), PathBuf::from("/lib64/ld.so")]);
        assert_eq!(listed("\tlibx.so => not found\n").expect_err("missing"), "libx.so => not found");
    }
}
