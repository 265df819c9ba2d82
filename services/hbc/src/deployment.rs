//! Where everything lies in a deployment's folder. Only names; nothing here reads or writes.

use std::path::{Path, PathBuf};

/// A deployment folder as `hbc init` makes it.
#[derive(Clone, Debug)]
pub struct Deployment {
    root: PathBuf,
}

impl Deployment {
    /// Names a folder; it need not exist. The path is made absolute, so that children may run anywhere.
    pub fn at(root: &Path) -> std::io::Result<Self> {
        Ok(Self { root: std::path::absolute(root)? })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the chain begins with; public.
    pub fn genesis(&self) -> PathBuf {
        self.root.join("genesis.json")
    }

    /// The supervisor's settings.
    pub fn settings(&self) -> PathBuf {
        self.root.join("hbc.toml")
    }

    /// The configuration file of one service.
    pub fn config(&self, name: &str) -> PathBuf {
        self.root.join("config").join(format!("{name}.toml"))
    }

    /// A file of mode 0600.
    pub fn secret(&self, name: &str) -> PathBuf {
        self.root.join("secrets").join(name)
    }

    /// What a service keeps.
    pub fn data(&self, name: &str) -> PathBuf {
        self.root.join("data").join(name)
    }

    /// A service's journal of what its database must not forget: apart from the databases, and never put back with them.
    pub fn journal(&self, name: &str) -> PathBuf {
        self.root.join("journals").join(name)
    }

    /// Kubo's repository (`IPFS_PATH`).
    pub fn kubo(&self) -> PathBuf {
        self.root.join("kubo")
    }

    /// What only a running supervisor keeps: lock, process records, state.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Held by the one supervisor.
    pub fn lock(&self) -> PathBuf {
        self.run().join("lock")
    }

    /// Who a child is.
    pub fn pid_file(&self, name: &str) -> PathBuf {
        self.run().join(format!("{name}.pid"))
    }

    /// Who the program behind a `hbc guard` child is.
    pub fn guarded_pid_file(&self, name: &str) -> PathBuf {
        self.run().join(format!("{name}.guarded.pid"))
    }

    /// The supervisor's view of its children, rewritten at each change.
    pub fn state(&self) -> PathBuf {
        self.run().join("state.json")
    }

    /// A file here named like a child suspends it.
    pub fn suspended(&self) -> PathBuf {
        self.run().join("suspended")
    }

    /// The output of one child, or of the supervisor itself.
    pub fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(format!("{name}.log"))
    }
}
