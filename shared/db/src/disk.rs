//! What durable files need beyond the standard library: a file is on disk when it was synced, and its name when its folder
//! was. A file that is replaced, made or moved needs both before anybody is told of it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The path of a file that stands beside another and bears its name with something behind it.
#[must_use]
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes a changed name in the folder of this file durable.
///
/// # Errors
/// When the folder cannot be synced.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Makes a folder durably, with those above it that are missing; no name at all is the present one. One that is there may
/// be from a process that died before it synced the name, so that is done again; unless the folder above may not be read:
/// then it is another's.
///
/// # Errors
/// When it cannot be made, or something else stands there.
pub fn make_folder(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    match fs::create_dir(path) {
        Ok(()) => sync_folder_of(path),
        Err(_) if path.is_dir() => match sync_folder_of(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        },
        Err(error) => match path.parent() {
            Some(above) if error.kind() == io::ErrorKind::NotFound => {
                make_folder(above)?;
                fs::create_dir(path)?;
                sync_folder_of(path)
            }
            _ => Err(error),
        },
    }
}

/// Makes everything in a folder durable, and the folder's own name.
///
/// # Errors
/// When something cannot be read or synced.
pub fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()?;
    sync_folder_of(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_with_those_above_it_and_may_be_there() {
        let home = tempfile::tempdir().unwrap();
        let deep = home.path().join("a/b/c");
        for _ in 0..2 {
            make_folder(&deep).unwrap();
            assert!(deep.is_dir());
        }
        fs::write(deep.join("file"), "x").unwrap();
        make_folder(&deep.join("file")).unwrap_err();
        make_folder(&deep.join("file/inner")).unwrap_err();
        sync_tree(home.path()).unwrap();
    }

    #[test]
    fn a_name_without_a_folder_is_in_the_present_one() {
        sync_folder_of(Path::new("Cargo.toml")).unwrap();
        sync_folder_of(Path::new("/")).unwrap();
        assert_eq!(beside(Path::new("a/ledger.db"), "-wal"), Path::new("a/ledger.db-wal"));
    }
}
