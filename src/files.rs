//! Reading and writing files with errors that name them.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::failure::Failure;

/// Reads a file.
///
/// # Errors
/// One line that names the file.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path)
        .map_err(|error| Failure::Failed(format!("cannot read `{}`: {error}", path.display())))
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

/// Writes a file as a whole or not at all: under another name first, then renamed.
///
/// # Errors
/// One line that names the file.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let problem = |error: std::io::Error| {
        Failure::Failed(format!("cannot write `{}`: {error}", path.display()))
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::create(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|error| {
        // Best effort: the error that matters is the first.
        let _ = fs::remove_file(&new);
        problem(error)
    })
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
    use super::*;

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
}
