//! `hbc openapi`: the documents under `openapi/`, generated from the route tables, or a check that they are current.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::services;

/// Writes every document into `folder`, or with `check` fails on the first that differs.
pub fn run(folder: &Path, check: bool) -> Result<()> {
    for service in &services::ALL {
        let path = folder.join(format!("{}.json", service.name));
        let document = (service.library.openapi)();
        let text = document.to_pretty_json().context("a document cannot be written as JSON")? + "\n";
        if check {
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            if committed != text {
                bail!(
                    "`{}` is not what the route table says; run `make openapi` and commit it",
                    path.display()
                );
            }
        } else {
            std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_documents_are_current() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi");
        super::run(&folder, true).unwrap();
    }
}
