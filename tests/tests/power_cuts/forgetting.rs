//! The disk itself: it forgets what was not synced, keeps what was, and never makes up a state of its own. Without this the
//! suite could not fail.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use hbc_types::Random;

use crate::disk::Disk;
use crate::luck::Luck;

/// Tells the program below where to write, and what.
const FOLDER: &str = "HBC_TEST_WRITES_IN";
const SCENE: &str = "HBC_TEST_WRITES";

/// One scene, played by a process of its own on the forgetful disk.
type Scene = fn(&Path) -> std::io::Result<()>;

const SCENES: [(&str, Scene); 7] = [
    ("nothing is synced", |folder| fs::write(folder.join("new"), "x")),
    ("the file alone", |folder| made(folder, "new").map(drop)),
    ("the folder alone", |folder| {
        fs::write(folder.join("new"), "x")?;
        sync(folder)
    }),
    ("file and folder", |folder| {
        made(folder, "new")?;
        fs::create_dir(folder.join("inner"))?;
        made(&folder.join("inner"), "deep")?;
        sync(&folder.join("inner"))?;
        sync(folder)
    }),
    ("a folder below one that was not", |folder| {
        fs::create_dir(folder.join("inner"))?;
        made(&folder.join("inner"), "deep")?;
        sync(&folder.join("inner"))
    }),
    ("a file put in the place of another", |folder| {
        made(folder, "new")?.sync_all()?;
        fs::rename(folder.join("new"), folder.join("old"))
    }),
    ("bytes appended, removed and written over", |folder| {
        let mut file = OpenOptions::new().read(true).write(true).open(folder.join("old"))?;
        file.set_len(4)?;
        file.seek(SeekFrom::End(0))?;
        file.write_all(b"synced")?;
        file.sync_data()?;
        file.write_all(b" and not")?;
        fs::remove_file(folder.join("other"))
    }),
];

fn made(folder: &Path, name: &str) -> std::io::Result<File> {
    let mut file = File::create(folder.join(name))?;
    file.write_all(b"new bytes")?;
    file.sync_all()?;
    Ok(file)
}

fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

#[test]
#[ignore = "what a program does to the forgetful disk, started by the tests beside it"]
fn a_program_writes() {
    let (Some(folder), Some(scene)) = (std::env::var_os(FOLDER), std::env::var_os(SCENE)) else { return };
    let (_, play) = SCENES.iter().find(|(name, _)| scene == *name).unwrap();
    play(Path::new(&folder)).unwrap();
}

/// What is below a folder, by path.
fn contents(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.push((format!("{name}/"), String::new()));
            found.extend(contents(&path).into_iter().map(|(inner, text)| (format!("{name}/{inner}"), text)));
        } else {
            found.push((name, fs::read_to_string(path).unwrap()));
        }
    }
    found.sort();
    found
}

/// Plays a scene beside `old` and `other`, cuts the power, and answers what is left.
fn left_after(scene: &str, luck: &Luck) -> Result<Vec<(String, String)>> {
    let home = tempfile::tempdir()?;
    let folder = home.path().join("folder");
    fs::create_dir(&folder)?;
    fs::write(folder.join("old"), "old bytes")?;
    fs::write(folder.join("other"), "")?;
    let disk = Disk::under(&folder, &[])?;
    let mut program = Command::new(std::env::current_exe()?);
    program.args(["--exact", "forgetting::a_program_writes", "--ignored"]).envs(disk.environment());
    let played = program.env(FOLDER, &folder).env(SCENE, scene).output().context("no program")?;
    ensure!(played.status.success(), "{scene}: {}", String::from_utf8_lossy(&played.stdout));
    ensure!(String::from_utf8_lossy(&played.stdout).contains("1 passed"), "nothing was played");
    disk.forget(luck)?;
    Ok(contents(&folder))
}

fn expected(names: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut all: Vec<_> = names.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    all.sort();
    all
}

#[test]
fn without_luck_a_disk_has_what_was_synced_and_nothing_else() -> Result<()> {
    let (old, other) = (("old", "old bytes"), ("other", ""));
    let left: [&[(&str, &str)]; 7] = [
        &[old, other],
        &[old, other],
        &[old, other, ("new", "")],
        &[old, other, ("new", "new bytes"), ("inner/", ""), ("inner/deep", "new bytes")],
        &[old, other],
        &[old, other],
        &[("old", "old synced"), other],
    ];
    for ((scene, _), left) in SCENES.iter().zip(left) {
        assert_eq!(left_after(scene, &Luck::None)?, expected(left), "{scene}");
    }
    Ok(())
}

#[test]
fn with_luck_it_may_have_more_but_never_less() -> Result<()> {
    let (mut whole, mut torn, mut gone, mut there) = (0, 0, 0, 0);
    for seed in 0..24 {
        let luck = Luck::Some(Random::seeded(seed));
        let left = left_after("bytes appended, removed and written over", &luck)?;
        let text = |name: &str| left.iter().find(|(other, _)| other == name).map(|(_, text)| text.as_str());
        let old = text("old").context("a file that was there is gone")?;
        assert!(old.starts_with("old synced"), "{old}");
        let rest = old.strip_prefix("old synced").unwrap_or_default();
        match rest.trim_matches('\0') {
            " and not" => whole += 1,
            "" => torn += 1,
            other => panic!("`{other}` was never written"),
        }
        match text("other") {
            Some(_) => there += 1,
            None => gone += 1,
        }
    }
    assert!(whole > 0 && torn > 0 && gone > 0 && there > 0, "{whole} {torn} {gone} {there}");
    Ok(())
}
