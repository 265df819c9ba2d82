//! What the machine can do, measured in the same run: nothing of the ledger can be faster.

use std::fs::File;
use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use ed25519_dalek::{Signer as _, SigningKey};
use hbc_chain::merkle::leaf_hash;
use hbc_types::keys::{PublicKey, SignatureBytes};
use hbc_types::{Digest, Random};

use super::table::{Figure, Table};
use crate::scratch::Scratch;

/// How long each limit is measured.
const SPAN: Duration = Duration::from_millis(700);
/// About the size of a transaction.
const LEAF_BYTES: usize = 500;

/// One core's limits, and the disk's.
pub struct Limits {
    /// RFC 6962 leaf hashes of 500 bytes.
    pub leaf_hashes_per_second: f64,
    /// Bytes through SHA-256.
    pub sha256_bytes_per_second: f64,
    /// Ed25519 verifications.
    pub ed25519_per_second: f64,
    /// Small writes made durable one after the other.
    pub syncs_per_second: f64,
    /// Cores.
    pub cores: f64,
}

impl Limits {
    /// Measures all of them.
    pub fn measure(random: &Random) -> Result<Self> {
        let leaf = vec![7_u8; LEAF_BYTES];
        let leaf_hashes_per_second = repeat(64, || black_box(leaf_hash(black_box(&leaf))));
        let large = vec![7_u8; 1 << 20];
        let sha256_bytes_per_second =
            repeat(1, || black_box(Digest::of(black_box(&large)))) * f64::from(1_u32 << 20);
        let key = SigningKey::from_bytes(&random.bytes());
        let public = PublicKey::of(&key).prepare()?;
        let signature = SignatureBytes::from_bytes(key.sign(&leaf).to_bytes());
        let ed25519_per_second =
            repeat(8, || black_box(public.verify(black_box(&leaf), black_box(&signature)).is_ok()));
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            leaf_hashes_per_second,
            sha256_bytes_per_second,
            ed25519_per_second,
            syncs_per_second: syncs(random)?,
            cores: f64::from(u32::try_from(cores)?),
        })
    }

    /// As the table's first part.
    pub fn show(&self, table: &mut Table) {
        table.part("this machine, one core");
        table.add(Figure::new("SHA-256", self.sha256_bytes_per_second / 1e6, "MB/s"));
        table.add(Figure::new("RFC 6962 leaf hashes of 500 bytes", self.leaf_hashes_per_second, "/s"));
        table.add(Figure::new("Ed25519 verifications", self.ed25519_per_second, "/s"));
        table.add(Figure::new("fsync of 4 KiB, one after the other", self.syncs_per_second, "/s"));
    }
}

/// How often `work` runs per second.
pub fn repeat<T>(at_once: u32, mut work: impl FnMut() -> T) -> f64 {
    let began = Instant::now();
    let mut done = 0_f64;
    while began.elapsed() < SPAN {
        for _ in 0..at_once {
            let _result = work();
        }
        done += f64::from(at_once);
    }
    done / began.elapsed().as_secs_f64()
}

fn syncs(random: &Random) -> Result<f64> {
    let scratch = Scratch::new("hbc-bench", random)?;
    let mut file = File::create(scratch.path().join("sync")).context("cannot write to the disk")?;
    let page = [7_u8; 4_096];
    let mut failed = None;
    let rate = repeat(1, || {
        if let Err(error) = file.write_all(&page).and_then(|()| file.sync_data()) {
            failed = Some(error);
        }
    });
    match failed {
        Some(error) => Err(error).context("cannot write to the disk"),
        None => Ok(rate),
    }
}
