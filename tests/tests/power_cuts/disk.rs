//! A disk that keeps only what it was told to keep. `forgets.c`, loaded into the processes, copies a file aside when it is
//! synced, and a folder's names when that is; after the power was cut the folder is made anew from these copies.
//!
//! Strictly: names and bytes as of the last sync, nothing else. Or with luck: a disk may have written more than it was
//! told to, so that each folder has its names of then or of now, and each file its bytes of then, of now, or some of both.
//! Every such state is one in which a real disk may be found.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use hbc_types::Clock;
use tempfile::TempDir;

use crate::luck::{File, Luck};

/// What was written or named so long ago must have been synced: whoever waits for a disk waits less.
pub const SYNCED_WITHIN: Duration = Duration::from_secs(2);

/// Files that are never synced, because what is in them is of the moment.
const OF_THE_MOMENT: [&str; 2] = ["lock", "-shm"];

/// What a power cut took away.
#[derive(Clone, Debug, Default)]
pub struct Lost {
    /// Files whose bytes are others than before.
    pub files: u32,
    /// Names that lead nowhere or elsewhere.
    pub names: u32,
    /// Files that were written, and names that were given, longer than [`SYNCED_WITHIN`] before the cut, and not synced.
    /// What was answered since may have relied on them.
    pub unsynced: Vec<PathBuf>,
}

/// The disk under one folder.
#[derive(Debug)]
pub struct Disk {
    below: PathBuf,
    /// Names in the folder whose contents stay as they are.
    left_out: &'static [&'static str],
    keeps: TempDir,
    library: PathBuf,
}

/// What a name leads to: the key of a file or folder, as `forgets.c` makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    File(String),
    Folder(String),
}

type Names = BTreeMap<OsString, Entry>;

/// All that is there at the instant of the cut.
#[derive(Default)]
struct Present {
    files: BTreeMap<String, PathBuf>,
    folders: BTreeMap<String, (PathBuf, Names)>,
}

impl Disk {
    /// The disk under `below`; what is there now is on it.
    pub fn under(below: &Path, left_out: &'static [&'static str]) -> Result<Self> {
        // In memory, where there is such a folder: every sync writes here.
        let keeps = tempfile::tempdir_in("/dev/shm").or_else(|_none| tempfile::tempdir())?;
        let below = below.canonicalize().context("there is no such folder")?;
        let disk = Self { below, left_out, keeps, library: library()? };
        disk.settle()?;
        Ok(disk)
    }

    /// What a process must have in its environment to be on this disk.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("LD_PRELOAD", self.library.clone().into()),
            ("FORGETS_BELOW", self.below.clone().into()),
            ("FORGETS_KEEPS", self.keeps.path().into()),
        ]
    }

    /// Everything that is there now is on the disk.
    fn settle(&self) -> Result<()> {
        for entry in fs::read_dir(&self.keeps)? {
            fs::remove_file(entry?.path())?;
        }
        let present = self.present()?;
        for (key, (_, names)) in &present.folders {
            fs::write(self.kept(key, "names"), listing(names)?)?;
        }
        for (key, path) in &present.files {
            fs::copy(path, self.kept(key, "bytes"))?;
        }
        Ok(())
    }

    /// The power was cut, and nobody runs any more: what was not synced is gone.
    pub fn forget(&self, luck: &Luck) -> Result<Lost> {
        let present = self.present()?;
        let mut lost = Lost { unsynced: self.unsynced(&present)?, ..Lost::default() };
        let after = self.below.with_extension("after");
        Remaking { disk: self, present: &present, luck, lost: &mut lost }.folder(&self.root()?, &after)?;
        for name in self.left_out {
            if self.below.join(name).exists() {
                fs::rename(self.below.join(name), after.join(name))?;
            }
        }
        fs::remove_dir_all(&self.below)?;
        fs::rename(&after, &self.below)?;
        self.settle()?;
        Ok(lost)
    }

    /// See [`Lost::unsynced`]. A name is as old as what it leads to: files move right after they were written.
    fn unsynced(&self, present: &Present) -> Result<Vec<PathBuf>> {
        let long_ago = Clock::system().now().minus(SYNCED_WITHIN);
        let is_old = |time: io::Result<SystemTime>| {
            let age = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            age.is_some_and(|age| age < Duration::from_millis(long_ago.unsigned_ms()))
        };
        let mut found = Vec::new();
        for (key, (folder, names)) in &present.folders {
            let kept = self.names(key)?;
            let lasting =
                |name: &OsString| !OF_THE_MOMENT.iter().any(|end| name.to_string_lossy().ends_with(end));
            for (name, entry) in names.iter().filter(|(name, _)| lasting(name)) {
                let path = folder.join(name);
                let metadata = fs::metadata(&path)?;
                let is_named = kept.get(name) == Some(entry) || !is_old(metadata.created());
                let is_whole = match entry {
                    Entry::File(key) => !is_old(metadata.modified()) || self.has_all_of(key, &path)?,
                    Entry::Folder(_) => true,
                };
                if !(is_named && is_whole) {
                    found.push(path);
                }
            }
        }
        Ok(found)
    }

    /// Whether a file's bytes are as of its last sync. That it was shortened need not be on disk.
    fn has_all_of(&self, key: &str, path: &Path) -> Result<bool> {
        let (then, now) = (read_if_there(&self.kept(key, "bytes"))?.unwrap_or_default(), fs::read(path)?);
        Ok(then == now || now.len() < then.len())
    }

    fn kept(&self, key: &str, kind: &str) -> PathBuf {
        self.keeps.path().join(format!("{key}.{kind}"))
    }

    /// A folder's names as of its last sync; none if there was no sync.
    fn names(&self, key: &str) -> Result<Names> {
        let text = read_if_there(&self.kept(key, "names"))?.unwrap_or_default();
        let entry = |line: &str| {
            let (kind, rest) = line.split_once(' ')?;
            let (key, name) = rest.split_once(' ')?;
            let entry = if kind == "d" { Entry::Folder(key.to_owned()) } else { Entry::File(key.to_owned()) };
            Some((OsString::from(name), entry))
        };
        let text = String::from_utf8(text).context("a folder's names are no text")?;
        let names = text.lines().map(|line| entry(line).context("a folder's names are not readable"));
        let mut names = names.collect::<Result<Names>>()?;
        if key == self.root()? {
            names.retain(|name, _| !self.is_left_out(name));
        }
        Ok(names)
    }

    fn root(&self) -> Result<String> {
        Ok(key_of(&fs::metadata(&self.below)?))
    }

    fn is_left_out(&self, name: &OsString) -> bool {
        self.left_out.iter().any(|left_out| name == left_out)
    }

    fn present(&self) -> Result<Present> {
        let mut present = Present::default();
        self.look(&self.below, &mut present)?;
        Ok(present)
    }

    fn look(&self, folder: &Path, present: &mut Present) -> Result<()> {
        let mut names = Names::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (path, metadata) = (entry.path(), fs::symlink_metadata(entry.path())?);
            let key = key_of(&metadata);
            if folder == self.below && self.is_left_out(&entry.file_name()) {
                continue;
            }
            if metadata.is_dir() {
                names.insert(entry.file_name(), Entry::Folder(key));
                self.look(&path, present)?;
            } else if metadata.is_file() {
                names.insert(entry.file_name(), Entry::File(key.clone()));
                present.files.insert(key, path);
            }
        }
        present.folders.insert(key_of(&fs::metadata(folder)?), (folder.to_owned(), names));
        Ok(())
    }
}

/// The folder in the making.
struct Remaking<'a> {
    disk: &'a Disk,
    present: &'a Present,
    luck: &'a Luck,
    lost: &'a mut Lost,
}

impl Remaking<'_> {
    fn folder(&mut self, key: &str, to: &Path) -> Result<()> {
        fs::create_dir(to)?;
        let kept = self.disk.names(key)?;
        let now = self.present.folders.get(key).map(|(_, names)| names);
        let names = self.luck.either(&kept, now);
        let gone = now.into_iter().flatten().filter(|(name, entry)| names.get(*name) != Some(*entry));
        self.lost.names += u32::try_from(gone.count())?;
        for (name, entry) in names {
            match entry {
                Entry::Folder(key) => self.folder(key, &to.join(name))?,
                Entry::File(key) => self.file(key, &to.join(name))?,
            }
        }
        Ok(())
    }

    fn file(&mut self, key: &str, to: &Path) -> Result<()> {
        let kept = self.disk.kept(key, "bytes");
        let now = self.present.files.get(key).map(fs::read).transpose()?;
        // An empty one is of a process that was killed right after it had shortened the file.
        let cut = read_if_there(&self.disk.kept(key, "cut"))?.filter(|text| !text.is_empty());
        let cut = cut.map(|text| String::from_utf8(text)?.parse().context("no length")).transpose()?;
        let then = read_if_there(&kept)?.unwrap_or_default();
        let bytes = self.luck.bytes(File { then, now: now.as_deref(), cut });
        self.lost.files += u32::from(now.is_some_and(|now| now != bytes));
        fs::write(to, bytes)?;
        let mode = if kept.exists() { fs::metadata(&kept)?.mode() } else { 0o600 };
        fs::set_permissions(to, Permissions::from_mode(mode & 0o777))?;
        Ok(())
    }
}

/// What processes load, built once from `forgets.c`.
fn library() -> Result<PathBuf> {
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = &*built {
        return Ok(path.clone());
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (path, new) = (folder.join("forgets.so"), folder.join(format!("forgets.{}.so", std::process::id())));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power_cuts/forgets.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&new).arg(source).arg("-ldl");
    let output = compiler.output().context("there is no C compiler")?;
    ensure!(output.status.success(), "forgets.c: {}", String::from_utf8_lossy(&output.stderr));
    fs::rename(new, &path)?;
    *built = Some(path.clone());
    Ok(path)
}

/// As `forgets.c` has it.
fn key_of(metadata: &Metadata) -> String {
    let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    format!("{}-{}", metadata.ino(), born.map_or(0, |born| born.as_nanos()))
}

fn listing(names: &Names) -> Result<String> {
    let mut text = String::new();
    for (name, entry) in names {
        let name = name.to_str().context("a name is no text")?;
        text.push_str(&match entry {
            Entry::File(key) => format!("f {key} {name}\n"),
            Entry::Folder(key) => format!("d {key} {name}\n"),
        });
    }
    Ok(text)
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}
