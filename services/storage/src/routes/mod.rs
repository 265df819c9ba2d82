//! The table of storage's routes. The capability statement and the OpenAPI document are made from it.

mod context;
mod fhir;
mod fhir_answer;
mod fhir_batch;
mod fhir_change;
mod fhir_everything;
mod fhir_history;
mod fhir_lastn;
mod fhir_read;
mod fhir_search;
mod fhir_validate;
mod negotiation;
mod proof;
mod records;
mod records_read;
mod searchset;

pub use fhir_answer::fhir_dialect;
use hbc_service::Routes;

/// Every route.
pub fn table(routes: &mut Routes<'_>) {
    routes
        .service(fhir_read::metadata)
        .service(fhir_read::smart_configuration)
        .service(fhir::upload_bundle)
        .service(fhir_everything::read_everything)
        .service(fhir_everything::post_everything)
        .service(fhir_lastn::last_of_each)
        .service(fhir_read::read_version)
        .service(fhir_history::system_history)
        .service(fhir_history::type_history)
        .service(fhir_history::instance_history)
        .service(fhir_read::read_resource)
        .service(fhir_search::search_by_post)
        .service(fhir_search::search_compartment)
        .service(fhir_search::search_type)
        .service(fhir::create_resource)
        .service(fhir_validate::validate_resource)
        .service(fhir_change::update_resource)
        .service(fhir_change::update_meeting)
        .service(fhir_change::patch_resource)
        .service(fhir_change::delete_resource)
        .service(fhir_change::delete_meeting)
        .service(records::create_record)
        .service(records_read::list_records)
        .service(records_read::get_record)
        .service(records_read::get_received)
        .service(records_read::get_content)
        .service(proof::get_record_proof);
}
