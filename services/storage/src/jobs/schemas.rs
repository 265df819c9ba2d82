//! The FHIR schemas are compiled before the first upload needs them.

use crate::app::blocking;
use crate::domain::validation;

/// Compiles them, and rests.
pub async fn run() {
    if blocking(validation::warm_up).await.is_err() {
        tracing::error!("The FHIR schemas cannot be compiled: uploads will be refused");
    }
    std::future::pending::<()>().await;
}
