//! Log files that do not grow without end: at 64 MiB a file is put aside as `NAME.log.1`, in the place of the one that was
//! put aside before, and the next line begins a new one. So a process has at most twice that on disk.
//!
//! Children write to a pipe, which a thread copies: a file that a child holds open could only be cut short while it writes.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, PipeReader, PipeWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tokio::sync::oneshot;

/// Bytes of a log before it is put aside.
const LIMIT_BYTES: u64 = 64 << 20;
/// Bytes of a line that are written in one piece.
const LINE_BYTES: usize = 64 << 10;

/// A log file that is appended to.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
    limit: u64,
    /// Bytes at which it is put aside next.
    full: u64,
}

impl Log {
    /// Opens, or goes on with, the log at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, LIMIT_BYTES)
    }

    /// The same with another limit.
    pub fn open_with(path: &Path, limit: u64) -> Result<Self> {
        let open = || -> io::Result<(File, u64)> {
            let file = append_to(path)?;
            let bytes = file.metadata()?.len();
            Ok((file, bytes))
        };
        let (file, bytes) = open().with_context(|| format!("cannot write the log `{}`", path.display()))?;
        Ok(Self { path: path.to_owned(), file, bytes, limit, full: limit })
    }

    /// Appends a line, or a part of one; a new file begins only where a line does.
    pub fn append(&mut self, text: &[u8], begins_a_line: bool) -> io::Result<()> {
        if begins_a_line && self.bytes > 0 && self.bytes + text.len() as u64 > self.full {
            match std::fs::rename(&self.path, self.path.with_extension("log.1")) {
                // It is tried again later; until then no line is lost for it.
                Err(error) if error.kind() != io::ErrorKind::NotFound => self.full = self.bytes + self.limit,
                // Or somebody else has put it aside.
                Ok(()) | Err(_) => {
                    (self.file, self.bytes, self.full) = (append_to(&self.path)?, 0, self.limit);
                }
            }
        }
        self.file.write_all(text)?;
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Takes what is written into the pipe that it returns, until nobody holds the pipe open; then the receiver hears of it.
    /// What cannot be written, to a full disk for instance, is left out: no process may wait for its log.
    pub fn pipe(mut self) -> Result<(PipeWriter, oneshot::Receiver<()>)> {
        let (reader, writer) = io::pipe().context("cannot make a pipe for a log")?;
        let (copied, copying) = oneshot::channel();
        // A thread of its own: a pipe that is held open must not hold up the end of this program.
        let copy = move || {
            let mut lines =
                Lines { reader: BufReader::with_capacity(LINE_BYTES, reader), begins_a_line: true };
            while let Some((text, begins_a_line)) = lines.next() {
                let _unwritten = self.append(&text, begins_a_line);
            }
            let _nobody_waits = copied.send(());
        };
        std::thread::Builder::new().name("log".to_owned()).spawn(copy).context("cannot start a thread")?;
        Ok((writer, copying))
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

/// Lines of a pipe as they come; long ones in parts.
struct Lines {
    reader: BufReader<PipeReader>,
    begins_a_line: bool,
}

impl Lines {
    fn next(&mut self) -> Option<(Vec<u8>, bool)> {
        let text = loop {
            match self.reader.fill_buf() {
                Ok([]) => return None,
                Ok(found) => {
                    let newline = found.iter().position(|byte| *byte == b'\n');
                    let end = newline.map_or(found.len(), |newline| newline + 1);
                    break found.iter().take(end).copied().collect::<Vec<u8>>();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_broken) => return None,
            }
        };
        self.reader.consume(text.len());
        let begins_a_line = std::mem::replace(&mut self.begins_a_line, text.ends_with(b"\n"));
        Some((text, begins_a_line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_log_that_is_full_is_put_aside_between_two_lines_and_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.log");
        std::fs::write(&path, "of an earlier run\n").unwrap();
        let (mut writer, copying) = Log::open_with(&path, 1_000).unwrap().pipe().unwrap();
        let mut second = writer.try_clone().unwrap();
        let line = |n: usize| format!("{n:04} {}\n", "x".repeat(n % 90));
        for n in 0..20 {
            let writer = if n % 2 == 0 { &mut writer } else { &mut second };
            let line = line(n);
            let (first, rest) = line.split_at(line.len() / 2);
            writer.write_all(first.as_bytes()).unwrap();
            writer.write_all(rest.as_bytes()).unwrap();
        }
        drop((writer, second));
        copying.await.unwrap();
        let (now, before) = (path.clone(), path.with_extension("log.1"));
        let [now, before] = [now, before].map(|path| std::fs::read_to_string(path).unwrap_or_default());
        assert_eq!(before + &now, format!("of an earlier run\n{}", (0..20).map(line).collect::<String>()));
        let (mut writer, copying) = Log::open_with(&path, 1_000).unwrap().pipe().unwrap();
        for n in 0..500 {
            writer.write_all(line(n).as_bytes()).unwrap();
        }
        drop(writer);
        copying.await.unwrap();
        let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
        let sizes: Vec<u64> = files.map(|file| std::fs::metadata(file).unwrap().len()).collect();
        assert!(sizes.len() == 2 && sizes.iter().all(|size| *size <= 1_000), "{sizes:?}");
        let [now, before] = [path.clone(), path.with_extension("log.1")].map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            assert!(text.ends_with('\n') && text.lines().all(|line| line.as_bytes()[4] == b' '));
            text
        });
        assert!((0..500).map(line).collect::<String>().ends_with(&(before + &now)), "the youngest lines");
    }

    #[test]
    fn a_log_that_somebody_else_put_aside_or_that_cannot_be_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.log");
        let mut log = Log::open_with(&path, 100).unwrap();
        let line = [b'x'; 60];
        log.append(&line, true).unwrap();
        std::fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        log.append(&line, true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap().len(), 60, "a file of its own again");
        // A folder stands where it would be put.
        std::fs::create_dir_all(path.with_extension("log.1").join("in it")).unwrap();
        for lines in 2..6 {
            log.append(&line, true).unwrap();
            assert_eq!(std::fs::read(&path).unwrap().len(), lines * 60, "no line is lost");
        }
    }
}
