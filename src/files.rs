//! Reading and writing files with errors that name them.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The longest file that is read, in bytes. What a user names may be a device without end.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// Reads a file.
///
/// # Errors
/// One line that names the file; also if it is longer than any that this program is made for.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let problem = |why: String| Failure::Failed(format!("cannot read `{}`: {why}", path.display()));
    let file = fs::File::open(path).map_err(|error| problem(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| problem(error.to_string()))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(problem(format!("it is longer than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Reads a text file.
///
/// # Errors
/// One line that names the file; input that is not UTF-8 is [`Failure::Input`].
pub fn read_text(path: &Path) -> Result<String, Failure> {
    let bytes = read_bytes(path)?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::Input(format!(
            "signalbox: `{}` is not UTF-8 text: byte {at} is not valid",
            path.display()
        ))
    })
}

/// Writes a file as a whole or not at all: under another name first, then renamed. A file that is there
/// keeps its permissions and owner, and a symbolic link goes on leading where it led.
///
/// # Errors
/// One line that names the file.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let problem =
        |error: io::Error| Failure::Failed(format!("cannot write `{}`: {error}", path.display()));
    let old = fs::metadata(path).ok();
    if old
        .as_ref()
        .is_some_and(|old| !old.is_file() && !old.is_dir())
    {
        // A device or a pipe is written to; it cannot be replaced.
        return fs::write(path, content).map_err(problem);
    }
    let path = behind_links(path).map_err(problem)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    // What a program of the same number left behind when it died.
    let _ = fs::remove_file(&new);
    let write = || -> io::Result<()> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        if old.is_some() {
            // Whoever may not read the old file may not read the new one meanwhile.
            options.mode(0o600);
        }
        let mut file = options.open(&new)?;
        file.write_all(content)?;
        if let Some(old) = &old {
            // Only root may give a file away; everybody else is its owner already, or becomes it.
            let _ = fchown(&file, Some(old.uid()), Some(old.gid()));
            file.set_permissions(old.permissions())?;
        }
        file.sync_all()?;
        fs::rename(&new, &path)
    };
    write().map_err(|error| {
        // Best effort: the error that matters is the first.
        let _ = fs::remove_file(&new);
        problem(error)
    })
}

/// Where a path leads when its last part is a symbolic link, which need not lead to anything.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    // As many as Linux follows.
    for _ in 0..40 {
        match fs::read_link(&path) {
            Ok(target) => path = path.with_file_name("").join(target),
            // It is no link, or there is nothing yet; what else is wrong shows when it is written.
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

/// Makes a folder and those above it.
///
/// # Errors
/// One line that names the folder.
pub fn make_folder(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(|error| {
        Failure::Failed(format!("cannot make folder `{}`: {error}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_device_without_end_is_no_file_to_read() {
        let said = read_text(Path::new("/dev/zero")).unwrap_err();
        assert!(format!("{said:?}").contains("longer than"), "{said:?}");
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_nothing_behind() {
        let folder = std::env::temp_dir().join(format!("signalbox-files-{}", std::process::id()));
        fs::create_dir_all(folder.join("taken")).unwrap();
        assert!(write_whole(&folder.join("taken"), b"x").is_err());
        assert!(write_whole(&folder.join("free"), b"x").is_ok());
        let mut names: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["free", "taken"]);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_link_still_leads_to_the_file_and_the_file_keeps_its_mode() {
        let folder = std::env::temp_dir().join(format!("signalbox-links-{}", std::process::id()));
        fs::create_dir_all(folder.join("real")).unwrap();
        let real = folder.join("real/file");
        fs::write(&real, b"old").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        let link = folder.join("link");
        symlink("real/file", &link).unwrap();
        write_whole(&link, b"new").unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read(&real).unwrap(), b"new");
        assert_eq!(real.metadata().unwrap().mode() & 0o777, 0o640);
        let dangling = folder.join("dangling");
        symlink("real/other", &dangling).unwrap();
        write_whole(&dangling, b"new").unwrap();
        assert_eq!(fs::read(folder.join("real/other")).unwrap(), b"new");
        let round = folder.join("round");
        symlink("round", &round).unwrap();
        assert!(write_whole(&round, b"x").is_err());
        write_whole(Path::new("/dev/null"), b"x").unwrap();
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
        fs::remove_dir_all(&folder).unwrap();
    }
}
