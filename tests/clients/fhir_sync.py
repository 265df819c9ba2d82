"""fhirpy's synchronous client, unmodified, with base URL and bearer token alone: it speaks through another HTTP library (requests)
than the asynchronous one, and does what any client does."""

from checks import IDENTIFIERS, check, given, pulse, run, visit
from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import MultipleResourcesFound, OperationOutcome, ResourceNotFound


class World:
    """The library's client and whom it is for."""

    def __init__(self, told):
        self.base, self.patient, self.unique = told["fhir"], told["patient"], told["unique"]
        self.authorization = f"Bearer {told['token']}"
        self.client = SyncFHIRClient(self.base, authorization=self.authorization)

    def made(self, word):
        """A new observation."""
        return self.client.resource("Observation", **pulse(self.patient, f"{self.unique}-{word}")).save()


@check
def a_resource_is_created_and_read(world):
    made = world.made("read")
    read = world.client.reference("Observation", made.id).to_resource()
    assert read.serialize() == made.serialize(), read.serialize()


@check
def a_search_by_code_and_date_is_exact(world):
    made = world.made("search")
    found = world.client.resources("Observation").search(
        code="http://loinc.org|8867-4", date="2026-03-01T08:00:00Z", identifier=f"{IDENTIFIERS}|{world.unique}-search"
    )
    assert [one.id for one in found.fetch()] == [made.id]


@check
def pages_are_followed_to_the_end(world):
    found = world.client.resources("Immunization").limit(2).fetch_all()
    assert len({one.id for one in found}) == len(found) == 7, len(found)
    assert len(list(world.client.resources("Immunization").limit(3))) == 7


@check
def a_count_counts_and_a_sort_sorts(world):
    immunizations = world.client.resources("Immunization")
    assert immunizations.count() == 7
    dates = [one["occurrenceDateTime"] for one in immunizations.sort("-date", "_id").fetch_all()]
    assert dates == sorted(dates, reverse=True), dates
    assert immunizations.sort("-date").first()["occurrenceDateTime"] == dates[0]


@check
def a_stale_save_is_its_412(world):
    made = world.made("stale")
    made["status"] = "amended"
    made.save()
    client = SyncFHIRClient(world.base, authorization=world.authorization, extra_headers={"If-Match": 'W/"1"'})
    try:
        client.resource("Observation", **made.serialize()).save()
        raise AssertionError("a stale save was taken")
    except MultipleResourcesFound:
        pass


@check
def faults_are_its_errors(world):
    try:
        world.client.reference("Observation", "nothing-of-that-name").to_resource()
        raise AssertionError("it was found")
    except ResourceNotFound:
        pass
    try:
        world.client.resource("Observation", status=["final"], code={"text": "x"}).save()
        raise AssertionError("a wrong resource was taken")
    except OperationOutcome as error:
        assert error.resource["issue"][0]["expression"][0].startswith("Observation.status"), error


@check
def a_deleted_resource_is_gone(world):
    made = world.made("delete")
    made.delete()
    try:
        made.refresh()
        raise AssertionError("a deleted resource was read")
    except ResourceNotFound:
        pass


@check
def a_transaction_and_its_history_are_whole(world):
    answer = world.client.execute("", data=visit(world.patient, f"{world.unique}-sync"))
    assert [one["response"]["status"][:3] for one in answer["entry"]] == ["201", "201"], answer
    place = answer["entry"][1]["response"]["location"]
    assert world.client.execute(place, method="get")["meta"]["versionId"] == "1"
    history = world.client.execute(place.rsplit("/", 1)[0], method="get")
    assert [one["request"]["method"] for one in history["entry"]] == ["POST"], history


@check
def everything_is_given(world):
    patient = world.client.reference("Patient", world.patient)
    bundle = patient.execute("$everything", method="get", params={"_count": 500})
    assert any(one["resource"]["resourceType"] == "Immunization" for one in bundle["entry"]), bundle.keys()


run(World(given()))
