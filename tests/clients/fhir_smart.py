"""SMART's Python client (fhirclient), unmodified, with base URL and bearer token alone: the examples of its README, and what any
client does. Its models are strict: an answer that is not FHIR R4 raises."""

import requests
from checks import IDENTIFIERS, check, given, pulse, run, visit
from fhirclient import client
from fhirclient._utils import iter_pages
from fhirclient.models.bundle import Bundle
from fhirclient.models.encounter import Encounter
from fhirclient.models.immunization import Immunization
from fhirclient.models.observation import Observation
from fhirclient.models.operationoutcome import OperationOutcome
from fhirclient.models.patient import Patient
from fhirclient.models.procedure import Procedure
from fhirclient.server import FHIRNotFoundException, FHIRUnauthorizedException


class World:
    """The library's client, as its saved state restores it, and whom it is for."""

    def __init__(self, told):
        self.base, self.patient, self.unique = told["fhir"], told["patient"], told["unique"]
        self.smart = self.with_token(told["token"])
        self.server = self.smart.server

    def with_token(self, token):
        """A client as it stands after a launch."""
        settings = {"app_id": "my_web_app", "api_base": self.base, "patient_id": self.patient}
        smart = client.FHIRClient(settings=settings)
        assert not smart.prepare(), "a protected server wants a token"
        smart.server.auth.access_token = token
        assert smart.ready
        return smart

    def made(self, word):
        """A new observation, as the server answered it."""
        made = Observation(pulse(self.patient, f"{self.unique}-{word}")).create(self.server)
        return Observation(made)


def refused(error):
    """The outcome that came with a refusal."""
    return OperationOutcome(error.response.json())


@check
def the_capability_statement_says_where_to_authorize(world):
    statement = world.server.capabilityStatement
    assert statement.fhirVersion == "4.0.1" and statement.rest[0].mode == "server"
    smart = client.FHIRClient(settings={"app_id": "my_web_app", "api_base": world.base})
    assert not smart.prepare() and "code_challenge" in smart.authorize_url, smart.authorize_url


@check
def the_own_patient_is_read(world):
    patient = Patient.read(world.patient, world.server)
    assert patient.id == world.patient and patient.birthDate.isostring, patient.as_json()
    assert world.smart.human_name(patient.name[0])
    assert world.smart.patient.id == world.patient


@check
def a_resource_is_created_and_read(world):
    made = world.made("read")
    read = Observation.read(made.id, world.server)
    assert read.as_json() == made.as_json() and read.meta.versionId == "1", read.as_json()
    assert read.subject.reference == f"Patient/{world.patient}"
    assert read.subject.resolved(Patient).id == world.patient


@check
def a_search_has_parameters(world):
    search = Immunization.where(struct={"patient": world.patient, "status": "completed"})
    assert len(list(search.perform_resources_iter(world.server))) == 7
    made = world.made("where")
    search = Observation.where(struct={"identifier": f"{IDENTIFIERS}|{world.unique}-where"})
    assert [one.id for one in search.perform_resources_iter(world.server)] == [made.id]
    search = Observation.where(struct={"code": "http://loinc.org|8867-4", "date": {"$and": ["ge2026-03-01", "lt2026-03-02"]}})
    assert made.id in {one.id for one in search.perform_resources_iter(world.server)}


@check
def pages_are_followed_to_the_end(world):
    search = Immunization.where(struct={"_count": "2"})
    pages = list(search.perform_iter(world.server))
    assert len(pages) == 4 and all(isinstance(page, Bundle) and page.total == 7 for page in pages), len(pages)
    found = [one.id for one in search.perform_resources_iter(world.server)]
    assert len(set(found)) == len(found) == 7, len(found)


@check
def results_are_sorted_and_counted(world):
    search = Immunization.where(struct={"_sort": "-date", "_count": "3"})
    dates = [one.occurrenceDateTime.isostring for one in search.perform_resources_iter(world.server)]
    assert len(dates) == 7 and dates == sorted(dates, reverse=True), dates
    counted = Bundle.read_from("Immunization?_summary=count", world.server)
    assert counted.total == 7 and not counted.entry, counted.as_json()


@check
def what_is_referred_to_is_included(world):
    search = Immunization.where(struct={}).include("patient")
    kinds = [one.resource_type for one in search.perform_resources_iter(world.server)]
    assert kinds.count("Patient") == 1 and kinds.count("Immunization") == 7, kinds


@check
def what_refers_to_it_is_included(world):
    search = Encounter.where(struct={"status": "finished"}).include("encounter", Procedure, reverse=True)
    kinds = {one.resource_type for one in search.perform_resources_iter(world.server)}
    assert kinds == {"Encounter", "Procedure"}, kinds


@check
def an_update_updates(world):
    made = world.made("update")
    made.status = "amended"
    updated = Observation(made.update(world.server))
    assert (updated.meta.versionId, updated.status) == ("2", "amended"), updated.as_json()


@check
def a_stale_save_is_its_412(world):
    made = world.made("stale")
    made.update(world.server)
    world.server.session.headers["If-Match"] = 'W/"1"'
    try:
        made.update(world.server)
        raise AssertionError("a stale save was taken")
    except requests.HTTPError as error:
        assert error.response.status_code == 412 and refused(error).issue[0].code == "conflict", error
    finally:
        del world.server.session.headers["If-Match"]


@check
def faults_are_its_errors(world):
    try:
        Observation.read("nothing-of-that-name", world.server)
        raise AssertionError("it was found")
    except FHIRNotFoundException as error:
        assert refused(error).issue[0].code == "not-found"
    try:
        world.server.post_json("Observation", {"resourceType": "Observation", "status": "final"})
        raise AssertionError("a wrong resource was taken")
    except requests.HTTPError as error:
        assert error.response.status_code == 422, error
        assert refused(error).issue[0].expression[0].startswith("Observation"), refused(error).as_json()
    try:
        Patient.read(world.patient, world.with_token("no.such.token").server)
        raise AssertionError("it was read without a token")
    except FHIRUnauthorizedException as error:
        assert refused(error).issue[0].code == "login"


@check
def a_deleted_resource_is_gone(world):
    made = world.made("delete")
    made.delete(world.server)
    try:
        Observation.read(made.id, world.server)
        raise AssertionError("a deleted resource was read")
    except requests.HTTPError as error:
        assert error.response.status_code == 410 and refused(error).issue[0].code == "deleted", error


@check
def a_conditional_create_makes_one(world):
    condition = f"identifier={IDENTIFIERS}|{world.unique}-once"
    world.server.session.headers["If-None-Exist"] = condition
    try:
        for _ in range(2):
            Observation(pulse(world.patient, f"{world.unique}-once")).create(world.server)
    finally:
        del world.server.session.headers["If-None-Exist"]
    search = Observation.where(struct={"identifier": f"{IDENTIFIERS}|{world.unique}-once"})
    assert len(list(search.perform_resources_iter(world.server))) == 1


@check
def a_transaction_is_whole(world):
    answer = Bundle(Bundle(visit(world.patient, f"{world.unique}-smart")).create(world.server))
    assert answer.type == "transaction-response", answer.as_json()
    assert [one.response.status[:3] for one in answer.entry] == ["201", "201"], answer.as_json()
    read = Observation.read_from(answer.entry[1].response.location, world.server)
    assert read.encounter.resolved(Encounter).status == "finished"


@check
def a_history_has_every_version(world):
    made = world.made("history")
    made.status = "amended"
    made.update(world.server)
    made.delete(world.server)
    history = Bundle.read_from(f"Observation/{made.id}/_history", world.server)
    methods = [one.request.method for one in history.entry]
    assert (history.type, methods) == ("history", ["DELETE", "PUT", "POST"]), history.as_json()


@check
def everything_is_given(world):
    bundle = Bundle.read_from(f"Patient/{world.patient}/$everything?_count=20", world.server)
    seen = sum(len(page.entry) for page in iter_pages(bundle, world.server))
    assert seen >= 66, seen


run(World(given()))
