//! Configuration: one TOML file, overridden by the environment. The only place that reads the environment.
//!
//! `HBC_STORAGE__SERVER__PORT=7104` sets `server.port` of the role `storage`: every variable that begins with
//! `HBC_<ROLE>__` is taken, and one that names no key is refused like an unknown key in the file. Secrets stand
//! in files of their own, named by keys that end in `_file` ([`SecretFile`]).

use std::fmt;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use hbc_types::secret::{Key32, SecretText};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};
use zeroize::Zeroizing;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The file or the environment does not say what it must.
    #[error("`{path}` is not a valid configuration: {message}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong, naming the key.
        message: String,
    },
    /// A secret's file is not what it must be.
    #[error("the secret `{path}` {message}")]
    Secret {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        message: &'static str,
    },
}

/// Reads the configuration of `role` from `path`, then from the environment.
pub fn load<T: DeserializeOwned>(role: &str, path: &Path) -> Result<T, ConfigError> {
    load_with(role, path, std::env::vars())
}

/// Like [`load`] with an environment given by hand.
fn load_with<T: DeserializeOwned>(
    role: &str,
    path: &Path,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let invalid = |message: String| ConfigError::Invalid { path: path.to_owned(), message };
    let mut table: Table = toml::from_str(&text).map_err(|error| invalid(error.to_string()))?;
    let prefix = format!("HBC_{}__", role.to_uppercase().replace('-', "_"));
    for (name, value) in variables {
        let Some(keys) = name.strip_prefix(&prefix) else { continue };
        let keys: Vec<String> = keys.split("__").map(str::to_lowercase).collect();
        set(&mut table, &keys, parse_value(value))
            .map_err(|message| invalid(format!("{name}: {message}")))?;
    }
    T::deserialize(Value::Table(table)).map_err(|error| invalid(error.to_string()))
}

fn set(table: &mut Table, keys: &[String], value: Value) -> Result<(), &'static str> {
    match keys {
        [] => Err("names no key"),
        [key] if key.is_empty() => Err("names no key"),
        [key] => {
            table.insert(key.clone(), value);
            Ok(())
        }
        [key, rest @ ..] => match table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(inner) => set(inner, rest, value),
            _ => Err("goes into a value that is not a table"),
        },
    }
}

/// A number, a truth value, a list or a table if it reads as one, else the text itself.
fn parse_value(text: String) -> Value {
    let table = toml::from_str::<Table>(&format!("value = {text}"));
    match table.ok().and_then(|mut table| table.remove("value")) {
        Some(value) => value,
        None => Value::String(text),
    }
}

/// Where a secret stands: a file that only its owner can read. Relative paths are taken from the working folder.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretFile(PathBuf);

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl SecretFile {
    /// The secret in this file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A 32-byte key: 64 hex digits.
    pub fn key(&self) -> Result<Key32, ConfigError> {
        let text = self.read()?;
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim().as_bytes(), &mut *bytes)
            .map_err(|_not_hex| self.refuse("does not hold 64 hex digits"))?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(self.refuse("holds only zeros"));
        }
        Ok(Key32::new(*bytes))
    }

    /// An Ed25519 signing key: its seed as 64 hex digits.
    pub fn signing_key(&self) -> Result<SigningKey, ConfigError> {
        Ok(SigningKey::from_bytes(self.key()?.expose()))
    }

    /// A secret text, without the white space around it.
    pub fn text(&self) -> Result<SecretText, ConfigError> {
        let text = self.read()?;
        if text.trim().is_empty() {
            return Err(self.refuse("is empty"));
        }
        Ok(SecretText::new(text.trim().to_owned()))
    }

    fn read(&self) -> Result<Zeroizing<String>, ConfigError> {
        let read = |source| ConfigError::Read { path: self.0.clone(), source };
        self.check_mode().map_err(read)?;
        std::fs::read_to_string(&self.0).map(Zeroizing::new).map_err(read)
    }

    #[cfg(unix)]
    fn check_mode(&self) -> std::io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&self.0)?.permissions().mode();
        if mode & 0o077 == 0 {
            return Ok(());
        }
        Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, "others than its owner can read it"))
    }

    #[cfg(not(unix))]
    fn check_mode(&self) -> std::io::Result<()> {
        Ok(())
    }

    fn refuse(&self, message: &'static str) -> ConfigError {
        ConfigError::Secret { path: self.0.clone(), message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        name: String,
        server: Inner,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        port: u16,
    }

    fn try_load(text: &str, variables: &[(&str, &str)]) -> Result<Sample, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sample.toml");
        std::fs::write(&path, text).unwrap();
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        load_with("access-policy", &path, variables)
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let text = "name = \"a\"\n[server]\nport = 1";
        let variables =
            [("HBC_ACCESS_POLICY__SERVER__PORT", "7102"), ("HBC_STORAGE__SERVER__PORT", "9"), ("HOME", "/")];
        let sample = try_load(text, &variables).unwrap();
        assert_eq!(sample, Sample { name: "a".to_owned(), server: Inner { port: 7102 } });
        assert_eq!(try_load(text, &[("HBC_ACCESS_POLICY__NAME", "b c")]).unwrap().name, "b c");
    }

    #[test]
    fn unknown_keys_are_refused_wherever_they_come_from() {
        let text = "name = \"a\"\n[server]\nport = 1";
        assert!(try_load(&format!("{text}\nprot = 2"), &[]).unwrap_err().to_string().contains("prot"));
        assert!(try_load(text, &[("HBC_ACCESS_POLICY__SERVER__PROT", "1")]).is_err());
        assert!(try_load(text, &[("HBC_ACCESS_POLICY__NAME__X", "1")]).is_err());
        assert!(try_load(text, &[("HBC_ACCESS_POLICY__", "1")]).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn secrets_must_be_private_and_complete() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.key");
        let write = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            SecretFile::new(&path).key()
        };
        assert_eq!(write(&format!("{}\n", "0a".repeat(32)), 0o600).unwrap().expose(), &[10; 32]);
        assert!(write(&"0a".repeat(32), 0o640).is_err());
        assert!(write(&"00".repeat(32), 0o600).is_err());
        assert!(write("0a0a", 0o600).is_err());
        assert!(SecretFile::new(folder.path().join("none")).text().is_err());
    }
}
