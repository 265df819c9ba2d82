"""fhirpy's asynchronous client, unmodified, with base URL and bearer token alone: the examples of its README, and what any client
does. Its PATCH and its conditional create are not FHIR's but Aidbox's; they are not tried."""

from checks import IDENTIFIERS, check, given, pulse, run, visit
from fhirpy import AsyncFHIRClient
from fhirpy.base.exceptions import MultipleResourcesFound, OperationOutcome, ResourceNotFound


class World:
    """The library's client and whom it is for."""

    def __init__(self, told):
        self.base, self.patient, self.unique = told["fhir"], told["patient"], told["unique"]
        self.authorization = f"Bearer {told['token']}"
        self.client = self.with_headers()

    def with_headers(self, **headers):
        """A client that sends headers of HTTP with each request, as the library provides for."""
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        return AsyncFHIRClient(self.base, authorization=self.authorization, extra_headers=extra)

    async def made(self, word, **changes):
        """A new observation."""
        resource = self.client.resource("Observation", **pulse(self.patient, f"{self.unique}-{word}", **changes))
        return await resource.save()


@check
async def a_resource_is_created_and_read_by_its_reference(world):
    made = await world.made("read")
    assert made.id and made["meta"]["versionId"] == "1", made.serialize()
    read = await world.client.reference("Observation", made.id).to_resource()
    assert read.serialize() == made.serialize(), read.serialize()
    assert read.get_by_path(["code", "coding", 0, "code"]) == "8867-4"
    assert (await world.client.get("Observation", made.id))["id"] == made.id


@check
async def the_own_patient_is_read(world):
    patient = await world.client.reference("Patient", world.patient).to_resource()
    assert patient.id == world.patient and patient.name[0].family, patient.serialize()


@check
async def a_search_has_parameters(world):
    found = await world.client.resources("Immunization").search(status="completed", date__ge="1900").fetch()
    assert len(found) == 7, len(found)
    none = await world.client.resources("Immunization").search(status="not-done").fetch()
    assert none == [], none
    by_reference = world.client.resources("Immunization").search(
        patient=world.client.reference("Patient", world.patient)
    )
    assert len(await by_reference.fetch()) == 7


@check
async def a_search_by_identifier_finds_exactly_one(world):
    made = await world.made("get")
    found = world.client.resources("Observation").search(identifier=f"{IDENTIFIERS}|{world.unique}-get")
    assert (await found.get()).id == made.id
    assert (await found.first()).id == made.id
    try:
        await world.client.resources("Immunization").get()
        raise AssertionError("more than one was one")
    except MultipleResourcesFound:
        pass
    try:
        await world.client.resources("Observation").search(identifier=f"{IDENTIFIERS}|none").get()
        raise AssertionError("none was one")
    except ResourceNotFound:
        pass


@check
async def modifiers_are_understood(world):
    observations = world.client.resources("Observation")
    finals = await observations.search(status__not="preliminary", code="http://loinc.org|8302-2").fetch_all()
    heights = await observations.search(code="8302-2").fetch_all()
    assert finals and len(finals) == len(heights)
    assert await observations.search(code="8302-2", value_quantity__missing=True).fetch() == []


@check
async def pages_are_followed_to_the_end(world):
    bundle = await world.client.resources("Immunization").limit(2).fetch_raw()
    assert len([one for one in bundle.entry if one.search.mode == "match"]) == 2
    found = await world.client.resources("Immunization").limit(2).fetch_all()
    assert len({one.id for one in found}) == len(found) == 7, len(found)
    assert len([one.id async for one in world.client.resources("Immunization").limit(3)]) == 7


@check
async def a_count_counts(world):
    assert await world.client.resources("Immunization").count() == 7


@check
async def results_are_sorted(world):
    for key, backwards in (("date", False), ("-date", True)):
        found = await world.client.resources("Immunization").sort(key).limit(3).fetch_all()
        dates = [one["occurrenceDateTime"] for one in found]
        assert len(dates) == 7 and dates == sorted(dates, reverse=backwards), dates


@check
async def elements_are_left_out(world):
    found = await world.client.resources("Immunization").elements("status").fetch()
    assert len(found) == 7 and all("status" in one and "primarySource" not in one for one in found)
    assert all(one["meta"]["tag"][0]["code"] == "SUBSETTED" for one in found), found[0].serialize()


@check
async def what_is_referred_to_is_included(world):
    bundle = await world.client.resources("Immunization").include("Immunization", "patient").fetch_raw()
    included = [one.resource for one in bundle.entry if one.search.mode == "include"]
    assert [one.reference for one in included] == [f"Patient/{world.patient}"], included
    assert bundle.total == 7, bundle.total


@check
async def what_refers_to_it_is_included(world):
    encounters = world.client.resources("Encounter")
    bundle = await encounters.revinclude("Procedure", "encounter").fetch_raw()
    kinds = {one.resource.resource_type for one in bundle.entry if one.search.mode == "include"}
    assert kinds == {"Procedure"}, kinds


@check
async def a_chain_is_followed(world):
    patient = await world.client.reference("Patient", world.patient).to_resource()
    immunizations = world.client.resources("Immunization")
    found = await immunizations.search(patient__Patient__family=patient.name[0].family).fetch()
    assert len(found) == 7
    assert await immunizations.search(patient__Patient__family="Nobodyofthatname").fetch() == []


@check
async def a_save_updates(world):
    made = await world.made("save")
    made["status"] = "amended"
    await made.save()
    assert (made["meta"]["versionId"], made["status"]) == ("2", "amended"), made.serialize()
    await made.refresh()
    assert made["meta"]["versionId"] == "2"


@check
async def a_stale_save_is_its_412(world):
    made = await world.made("stale")
    await made.save()
    late = world.with_headers(If_Match='W/"1"').resource("Observation", **made.serialize())
    try:
        await late.save()
        raise AssertionError("a stale save was taken")
    except MultipleResourcesFound:
        pass


@check
async def what_is_not_there_is_not_found(world):
    for call in (
        world.client.reference("Observation", "nothing-of-that-name").to_resource(),
        world.client.resources("Nonsense").fetch(),
    ):
        try:
            await call
            raise AssertionError("it was found")
        except ResourceNotFound as error:
            assert '"OperationOutcome"' in str(error), error


@check
async def what_is_wrong_is_an_operation_outcome(world):
    wrong = world.client.resource("Observation", status="final", code={"coding": "none"})
    try:
        await wrong.save()
        raise AssertionError("a wrong resource was taken")
    except OperationOutcome as error:
        issue = error.resource["issue"][0]
        assert issue["severity"] == "error" and issue["expression"][0].startswith("Observation.code"), issue


@check
async def a_deleted_resource_is_gone(world):
    made = await world.made("delete")
    await made.delete()
    try:
        await world.client.reference("Observation", made.id).to_resource()
        raise AssertionError("a deleted resource was read")
    except ResourceNotFound:
        pass
    # Again it changes nothing.
    await made.delete()


@check
async def a_conditional_create_makes_one(world):
    condition = f"identifier={IDENTIFIERS}|{world.unique}-once"
    client = world.with_headers(If_None_Exist=condition)
    resource = pulse(world.patient, f"{world.unique}-once")
    for _ in range(2):
        await client.resource("Observation", **resource).save()
    found = world.client.resources("Observation").search(identifier=f"{IDENTIFIERS}|{world.unique}-once")
    assert await found.count() == 1


@check
async def a_conditional_update_updates(world):
    resource = pulse(world.patient, f"{world.unique}-conditional")
    search = world.client.resources("Observation").search(identifier=f"{IDENTIFIERS}|{world.unique}-conditional")
    first, created = await search.update(world.client.resource("Observation", **resource))
    assert created
    resource["status"] = "amended"
    second, created = await search.update(world.client.resource("Observation", **resource))
    assert not created and second.id == first.id and second["status"] == "amended", second.serialize()


@check
async def a_conditional_delete_deletes(world):
    made = await world.made("conditional-delete")
    search = world.client.resources("Observation").search(identifier=f"{IDENTIFIERS}|{world.unique}-conditional-delete")
    _answer, status = await search.delete()
    assert status in (200, 204), status
    assert await search.count() == 0, made.id


@check
async def a_transaction_is_whole(world):
    answer = await world.client.execute("", data=visit(world.patient, f"{world.unique}-async"))
    assert answer["type"] == "transaction-response"
    assert [one["response"]["status"][:3] for one in answer["entry"]] == ["201", "201"], answer
    encounter, observation = (one["response"]["location"].split("/")[-3] for one in answer["entry"])
    read = await world.client.reference("Observation", observation).to_resource()
    assert read["encounter"]["reference"] == f"Encounter/{encounter}", read.serialize()
    target = await world.client.reference(reference=read["encounter"]["reference"]).to_resource()
    assert target["status"] == "finished"


@check
async def a_history_has_every_version(world):
    made = await world.made("history")
    made["status"] = "amended"
    await made.save()
    await made.delete()
    history = await world.client.execute(f"Observation/{made.id}/_history", method="get")
    methods = [one["request"]["method"] for one in history["entry"]]
    assert (history["type"], methods) == ("history", ["DELETE", "PUT", "POST"]), history


@check
async def everything_is_given(world):
    patient = world.client.reference("Patient", world.patient)
    bundle = await patient.execute("$everything", method="get", params={"_count": 500})
    kinds = {one["resource"]["resourceType"] for one in bundle["entry"]}
    assert {"Patient", "Observation"} <= kinds, kinds


@check
async def a_resource_is_validated(world):
    assert await world.client.resource("Observation", **pulse(world.patient)).is_valid()
    assert not await world.client.resource("Observation", status="nonsense").is_valid()


run(World(given()))
