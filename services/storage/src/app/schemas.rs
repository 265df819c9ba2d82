//! The FHIR definitions are read before the first upload needs them.

use super::blocking;
use crate::domain::definitions::definitions;

/// Reads them, and rests.
pub async fn run() {
    if blocking(|| definitions().map(|_made| ())).await.is_err() {
        tracing::error!("The FHIR definitions cannot be read: uploads will be refused");
    }
    std::future::pending::<()>().await;
}
