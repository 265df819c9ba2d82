// HAPI's Java client, unmodified, with base URL and bearer token alone: the examples of its documentation, and what any client does. In:
// a line of {fhir, token, patient, unique} as JSON; out: `ok NAME` or `failed NAME: why` of each check, a line each. Before its first
// request it fetches the capability statement and refuses a server of another version.

import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.rest.api.MethodOutcome;
import ca.uhn.fhir.rest.api.PreferReturnEnum;
import ca.uhn.fhir.rest.api.SearchStyleEnum;
import ca.uhn.fhir.rest.api.SearchTotalModeEnum;
import ca.uhn.fhir.rest.api.SortOrderEnum;
import ca.uhn.fhir.rest.api.SortSpec;
import ca.uhn.fhir.rest.api.SummaryEnum;
import ca.uhn.fhir.rest.client.api.IGenericClient;
import ca.uhn.fhir.rest.client.interceptor.BearerTokenAuthInterceptor;
import ca.uhn.fhir.rest.gclient.IQuery;
import ca.uhn.fhir.rest.gclient.StringClientParam;
import ca.uhn.fhir.rest.gclient.TokenClientParam;
import ca.uhn.fhir.rest.server.exceptions.AuthenticationException;
import ca.uhn.fhir.rest.server.exceptions.BaseServerResponseException;
import ca.uhn.fhir.rest.server.exceptions.PreconditionFailedException;
import ca.uhn.fhir.rest.server.exceptions.ResourceGoneException;
import ca.uhn.fhir.rest.server.exceptions.ResourceNotFoundException;
import ca.uhn.fhir.rest.server.exceptions.UnprocessableEntityException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.stream.Collectors;
import org.hl7.fhir.instance.model.api.IBaseBundle;
import org.hl7.fhir.r4.model.Bundle;
import org.hl7.fhir.r4.model.CapabilityStatement;
import org.hl7.fhir.r4.model.Encounter;
import org.hl7.fhir.r4.model.IdType;
import org.hl7.fhir.r4.model.Immunization;
import org.hl7.fhir.r4.model.IntegerType;
import org.hl7.fhir.r4.model.Observation;
import org.hl7.fhir.r4.model.OperationOutcome;
import org.hl7.fhir.r4.model.Parameters;
import org.hl7.fhir.r4.model.Patient;
import org.hl7.fhir.r4.model.Procedure;
import org.hl7.fhir.r4.model.Quantity;
import org.hl7.fhir.r4.model.Reference;
import org.hl7.fhir.r4.model.Resource;
import org.hl7.fhir.r4.model.ResourceType;

public final class FhirHapi {
  private static final String IDENTIFIERS = "urn:example:fhir-libraries";
  private static final String LOINC = "http://loinc.org";
  private final FhirContext context = FhirContext.forR4();
  private final String base;
  private final String patient;
  private final String unique;
  private final IGenericClient client;
  private final Map<String, Runnable> checks = new LinkedHashMap<>();

  private FhirHapi(JsonNode given) {
    base = given.get("fhir").asText();
    patient = given.get("patient").asText();
    unique = given.get("unique").asText();
    client = with(given.get("token").asText());
    reading();
    writing();
    searching();
    bundles();
  }

  public static void main(String[] arguments) throws Exception {
    new FhirHapi(new ObjectMapper().readTree(System.in)).run();
  }

  private void run() {
    checks.forEach((name, check) -> {
      try {
        check.run();
        System.out.println("ok " + name);
      } catch (RuntimeException | AssertionError error) {
        String why = error.toString().replaceAll("\\s+", " ");
        System.out.println("failed " + name + ": " + why.substring(0, Math.min(600, why.length())));
      }
    });
  }

  private IGenericClient with(String token) {
    context.getRestfulClientFactory().setSocketTimeout(60_000);
    IGenericClient made = context.newRestfulGenericClient(base);
    made.registerInterceptor(new BearerTokenAuthInterceptor(token));
    return made;
  }

  private void reading() {
    checks.put("the capability statement says what is so", () -> {
      CapabilityStatement statement = client.capabilities().ofType(CapabilityStatement.class).execute();
      same("4.0.1", statement.getFhirVersion().toCode());
      Set<String> types = statement.getRestFirstRep().getResource().stream().map(one -> one.getType()).collect(Collectors.toSet());
      holds(types.containsAll(Set.of("Patient", "Observation", "Encounter")), types);
    });
    checks.put("the own patient is read", () -> {
      Patient read = client.read().resource(Patient.class).withId(patient).execute();
      same(patient, read.getIdElement().getIdPart());
      holds(read.hasBirthDate() && read.getNameFirstRep().hasFamily(), "no birth date");
      String url = base + "/Patient/" + patient;
      same(read.getIdElement().getIdPart(), client.read().resource(Patient.class).withUrl(url).execute().getIdElement().getIdPart());
    });
    checks.put("a resource is created and read", () -> {
      IdType id = made("read");
      same("1", id.getVersionIdPart());
      Observation read = client.read().resource(Observation.class).withId(id).execute();
      same("Patient/" + patient, read.getSubject().getReference());
      same("1", read.getMeta().getVersionId());
      holds(read.getMeta().hasLastUpdated(), "lastUpdated");
      same("8867-4", client.vread(Observation.class, id.getIdPart(), "1").getCode().getCodingFirstRep().getCode());
    });
    checks.put("what has not changed is not sent again", () -> {
      IdType id = made("unchanged");
      Observation kept = new Observation();
      Observation read = client.read().resource(Observation.class).withId(id.toVersionless())
          .ifVersionMatches("1").returnResource(kept).execute();
      holds(read == kept, "it was sent again");
    });
    checks.put("faults are its errors", () -> {
      ResourceNotFoundException lost = refused(ResourceNotFoundException.class,
          () -> client.read().resource(Observation.class).withId("nothing-of-that-name").execute());
      same("not-found", ((OperationOutcome) lost.getOperationOutcome()).getIssueFirstRep().getCode().toCode());
      UnprocessableEntityException wrong = refused(UnprocessableEntityException.class,
          () -> client.create().resource("{\"resourceType\":\"Observation\",\"status\":\"final\"}").execute());
      OperationOutcome outcome = (OperationOutcome) wrong.getOperationOutcome();
      holds(outcome.getIssueFirstRep().getExpression().get(0).getValue().startsWith("Observation"), outcome);
      refused(AuthenticationException.class, () -> with("no.such.token").read().resource(Patient.class).withId(patient).execute());
    });
  }

  private void writing() {
    checks.put("an update updates", () -> {
      Observation read = client.read().resource(Observation.class).withId(made("update").toVersionless()).execute();
      read.setStatus(Observation.ObservationStatus.AMENDED);
      MethodOutcome outcome = client.update().resource(read).prefer(PreferReturnEnum.REPRESENTATION).execute();
      same("2", outcome.getId().getVersionIdPart());
      same("2", outcome.getResource().getMeta().getVersionId());
      holds(!Boolean.TRUE.equals(outcome.getCreated()), "created");
      // It says by itself which version it changes.
      MethodOutcome minimal = client.update().resource((Observation) outcome.getResource()).prefer(PreferReturnEnum.MINIMAL).execute();
      same("3", minimal.getId().getVersionIdPart());
      holds(minimal.getResource() == null, "return=minimal");
    });
    checks.put("a stale save is its 412", () -> {
      Observation read = client.read().resource(Observation.class).withId(made("stale").toVersionless()).execute();
      Runnable save = () -> client.update().resource(read).execute();
      save.run();
      refused(PreconditionFailedException.class, save);
    });
    checks.put("a conditional create makes one", () -> {
      Observation resource = pulse("once");
      List<IdType> ids = new ArrayList<>();
      for (boolean created : new boolean[] {true, false}) {
        MethodOutcome outcome = client.create().resource(resource).conditional()
            .where(Observation.IDENTIFIER.exactly().systemAndIdentifier(IDENTIFIERS, unique + "-once")).execute();
        same(created, Boolean.TRUE.equals(outcome.getCreated()));
        ids.add((IdType) outcome.getId());
      }
      same(ids.get(0).getIdPart(), ids.get(1).getIdPart());
    });
    checks.put("a conditional update updates", () -> {
      Observation resource = pulse("conditional");
      List<String> ids = new ArrayList<>();
      for (String version : List.of("1", "2")) {
        MethodOutcome outcome = client.update().resource(resource).conditional()
            .where(Observation.IDENTIFIER.exactly().systemAndIdentifier(IDENTIFIERS, unique + "-conditional")).execute();
        same(version, outcome.getId().getVersionIdPart());
        ids.add(outcome.getId().getIdPart());
        resource.setStatus(Observation.ObservationStatus.AMENDED);
      }
      same(ids.get(0), ids.get(1));
    });
    checks.put("a patch patches", () -> {
      IdType id = made("patch").toVersionless();
      String patch = "[{\"op\":\"replace\",\"path\":\"/status\",\"value\":\"amended\"}]";
      MethodOutcome outcome = client.patch().withBody(patch).withId(id).execute();
      same("2", outcome.getId().getVersionIdPart());
      same("amended", client.read().resource(Observation.class).withId(id).execute().getStatus().toCode());
    });
    checks.put("a deleted resource is gone", () -> {
      IdType id = made("delete").toVersionless();
      client.delete().resourceById(id).execute();
      refused(ResourceGoneException.class, () -> client.read().resource(Observation.class).withId(id).execute());
      client.delete().resourceById(id).execute();
    });
    checks.put("a conditional delete deletes", () -> {
      IdType id = made("conditional-delete").toVersionless();
      client.delete().resourceConditionalByType(Observation.class)
          .where(Observation.IDENTIFIER.exactly().systemAndIdentifier(IDENTIFIERS, unique + "-conditional-delete")).execute();
      refused(ResourceGoneException.class, () -> client.read().resource(Observation.class).withId(id).execute());
    });
    checks.put("a resource is validated", () -> {
      MethodOutcome good = client.validate().resource(pulse("validate")).execute();
      OperationOutcome outcome = (OperationOutcome) good.getOperationOutcome();
      holds(outcome.getIssue().stream().noneMatch(issue -> issue.getSeverity() == OperationOutcome.IssueSeverity.ERROR), outcome);
    });
  }

  private void searching() {
    checks.put("a search has parameters", () -> {
      IdType id = made("search");
      Bundle found = bundle(client.search().forResource(Observation.class)
          .where(Observation.PATIENT.hasId(patient))
          .and(Observation.CODE.exactly().systemAndCode(LOINC, "8867-4"))
          .and(Observation.DATE.afterOrEquals().day("2026-03-01"))
          .and(Observation.DATE.before().day("2026-03-02"))
          .and(Observation.IDENTIFIER.exactly().systemAndIdentifier(IDENTIFIERS, unique + "-search"))
          .and(Observation.VALUE_QUANTITY.greaterThan().number(70).andUnits("http://unitsofmeasure.org", "/min")));
      same(List.of(id.getIdPart()), ids(found));
    });
    checks.put("a search may be posted", () ->
        same(7, bundle(immunizations().where(Immunization.STATUS.exactly().code("completed"))
            .usingStyle(SearchStyleEnum.POST)).getTotal()));
    checks.put("a compartment is searched", () ->
        same(7, bundle(client.search().forResource(Patient.class).withIdAndCompartment(patient, "Immunization")).getTotal()));
    checks.put("a chain is followed", () -> {
      String family = client.read().resource(Patient.class).withId(patient).execute().getNameFirstRep().getFamily();
      IQuery<IBaseBundle> good = immunizations().where(Immunization.PATIENT.hasChainedProperty(Patient.FAMILY.matches().value(family)));
      same(7, bundle(good).getTotal());
      IQuery<IBaseBundle> none = immunizations()
          .where(Immunization.PATIENT.hasChainedProperty("Patient", Patient.FAMILY.matches().value("Nobodyofthatname")));
      same(0, bundle(none).getTotal());
    });
    checks.put("what others refer to is found by them", () -> {
      Bundle found = bundle(client.search().forResource(Encounter.class)
          .where(new StringClientParam("_has:Procedure:encounter:status").matches().value("completed")));
      holds(found.getTotal() > 0, found.getTotal());
    });
    checks.put("pages are followed to the end and back", () -> {
      Bundle first = bundle(immunizations().count(2).totalMode(SearchTotalModeEnum.ACCURATE));
      same(7, first.getTotal());
      List<String> found = new ArrayList<>(ids(first));
      Bundle page = first;
      Bundle last = first;
      while (page.getLink(Bundle.LINK_NEXT) != null) {
        last = page;
        page = client.loadPage().next(page).execute();
        found.addAll(ids(page));
      }
      same(7, found.size());
      same(7, new HashSet<>(found).size());
      same(ids(last), ids(client.loadPage().previous(page).execute()));
    });
    checks.put("results are sorted", () -> {
      for (SortOrderEnum order : SortOrderEnum.values()) {
        Bundle found = bundle(immunizations().sort(new SortSpec("date", order, new SortSpec("_id"))).count(100));
        List<String> dates = found.getEntry().stream().filter(FhirHapi::isMatch)
            .map(one -> ((Immunization) one.getResource()).getOccurrenceDateTimeType().getValueAsString()).toList();
        List<String> sorted = new ArrayList<>(dates);
        sorted.sort(order == SortOrderEnum.ASC ? java.util.Comparator.naturalOrder() : java.util.Comparator.reverseOrder());
        same(sorted, dates);
      }
    });
    checks.put("counts, summaries and elements", () -> {
      Bundle counted = bundle(immunizations().summaryMode(SummaryEnum.COUNT));
      same(7, counted.getTotal());
      holds(!counted.hasEntry(), "entries of a count");
      Bundle some = bundle(immunizations().elementsSubset("status"));
      Immunization one = (Immunization) some.getEntryFirstRep().getResource();
      holds(one.hasStatus() && !one.hasPrimarySource(), "elements");
      holds(one.getMeta().getTag().stream().anyMatch(tag -> "SUBSETTED".equals(tag.getCode())), "SUBSETTED");
    });
    checks.put("what is referred to is included, and what refers", () -> {
      Bundle found = bundle(immunizations().include(Immunization.INCLUDE_PATIENT));
      List<Resource> included = found.getEntry().stream().filter(one -> !isMatch(one)).map(one -> one.getResource()).toList();
      same(List.of(ResourceType.Patient), included.stream().map(Resource::getResourceType).toList());
      Bundle back = bundle(client.search().forResource(Encounter.class)
          .revInclude(new ca.uhn.fhir.model.api.Include("Procedure:encounter")));
      holds(back.getEntry().stream().anyMatch(one -> one.getResource() instanceof Procedure), "revinclude");
    });
    checks.put("a code may be one of several, or none of them", () -> {
      IQuery<IBaseBundle> either = client.search().forResource(Observation.class)
          .where(Observation.CODE.exactly().codes("8302-2", "8867-4")).count(100);
      Set<String> codes = bundle(either).getEntry().stream().filter(FhirHapi::isMatch)
          .map(one -> ((Observation) one.getResource()).getCode().getCodingFirstRep().getCode()).collect(Collectors.toSet());
      same(Set.of("8302-2", "8867-4"), codes);
      same(0, bundle(immunizations().where(new TokenClientParam("status:not").exactly().code("completed"))).getTotal());
    });
  }

  private void bundles() {
    checks.put("a transaction is whole", () -> {
      Encounter encounter = new Encounter().setStatus(Encounter.EncounterStatus.FINISHED);
      encounter.getClass_().setSystem("http://terminology.hl7.org/CodeSystem/v3-ActCode").setCode("AMB");
      encounter.setSubject(new Reference("Patient/" + patient));
      encounter.setId(IdType.newRandomUuid());
      Observation observation = pulse("visit");
      observation.setEncounter(new Reference(encounter.getIdElement().getValue()));
      Bundle bundle = new Bundle().setType(Bundle.BundleType.TRANSACTION);
      bundle.addEntry().setFullUrl(encounter.getIdElement().getValue()).setResource(encounter).getRequest()
          .setUrl("Encounter").setMethod(Bundle.HTTPVerb.POST);
      bundle.addEntry().setResource(observation).getRequest().setUrl("Observation").setMethod(Bundle.HTTPVerb.POST)
          .setIfNoneExist("identifier=" + IDENTIFIERS + "|" + unique + "-visit");
      Bundle answer = client.transaction().withBundle(bundle).execute();
      same("transaction-response", answer.getType().toCode());
      List<IdType> places = answer.getEntry().stream().map(one -> new IdType(one.getResponse().getLocation())).toList();
      Observation read = client.read().resource(Observation.class).withId(places.get(1).toVersionless()).execute();
      same(places.get(0).toUnqualifiedVersionless().getValue(), read.getEncounter().getReference());
    });
    checks.put("a transaction updates, deletes and reads in the standard's order", () -> {
      Observation changed = client.read().resource(Observation.class).withId(made("changed").toVersionless()).execute();
      IdType gone = made("gone").toUnqualifiedVersionless();
      changed.setStatus(Observation.ObservationStatus.AMENDED);
      String place = changed.getIdElement().toUnqualifiedVersionless().getValue();
      Bundle bundle = new Bundle().setType(Bundle.BundleType.TRANSACTION);
      bundle.addEntry().getRequest().setUrl(place).setMethod(Bundle.HTTPVerb.GET);
      bundle.addEntry().setResource(changed).getRequest().setUrl(place).setMethod(Bundle.HTTPVerb.PUT);
      bundle.addEntry().getRequest().setUrl(gone.getValue()).setMethod(Bundle.HTTPVerb.DELETE);
      List<Bundle.BundleEntryComponent> answers = client.transaction().withBundle(bundle).execute().getEntry();
      same("amended", ((Observation) answers.get(0).getResource()).getStatus().toCode());
      holds(answers.get(1).getResponse().getStatus().startsWith("200"), answers.get(1).getResponse().getStatus());
      refused(ResourceGoneException.class, () -> client.read().resource(Observation.class).withId(gone).execute());
    });
    checks.put("a transaction that fails changes nothing", () -> {
      Bundle bundle = new Bundle().setType(Bundle.BundleType.TRANSACTION);
      bundle.addEntry().setResource(pulse("half")).getRequest().setUrl("Observation").setMethod(Bundle.HTTPVerb.POST);
      Observation wrong = pulse("half");
      wrong.setStatus(null);
      bundle.addEntry().setResource(wrong).getRequest().setUrl("Observation").setMethod(Bundle.HTTPVerb.POST);
      refused(UnprocessableEntityException.class, () -> client.transaction().withBundle(bundle).execute());
      same(0, bundle(client.search().forResource(Observation.class)
          .where(Observation.IDENTIFIER.exactly().systemAndIdentifier(IDENTIFIERS, unique + "-half"))).getTotal());
    });
    checks.put("histories of one, of a type and of all", () -> {
      Observation read = client.read().resource(Observation.class).withId(made("history").toVersionless()).execute();
      IdType id = read.getIdElement().toUnqualifiedVersionless();
      client.update().resource(read.setStatus(Observation.ObservationStatus.AMENDED)).execute();
      client.delete().resourceById(id).execute();
      Bundle history = client.history().onInstance(id).returnBundle(Bundle.class).execute();
      same(List.of("DELETE", "PUT", "POST"), history.getEntry().stream().map(one -> one.getRequest().getMethod().toCode()).toList());
      Bundle ofType = client.history().onType(Observation.class).returnBundle(Bundle.class).count(5).execute();
      Bundle ofAll = client.history().onServer().returnBundle(Bundle.class).count(5).execute();
      for (Bundle more : List.of(ofType, ofAll)) {
        same(Bundle.BundleType.HISTORY, more.getType());
        same("DELETE", more.getEntryFirstRep().getRequest().getMethod().toCode());
      }
    });
    checks.put("everything is given", () -> {
      for (boolean get : new boolean[] {true, false}) {
        var operation = client.operation().onInstance(new IdType("Patient", patient)).named("$everything")
            .withParameter(Parameters.class, "_count", new IntegerType(500)).returnResourceType(Bundle.class);
        Bundle found = get ? operation.useHttpGet().execute() : operation.execute();
        holds(found.getEntry().stream().anyMatch(one -> one.getResource() instanceof Patient), found.getTotal());
      }
    });
  }

  private IQuery<IBaseBundle> immunizations() {
    return client.search().forResource(Immunization.class);
  }

  private static Bundle bundle(IQuery<IBaseBundle> query) {
    return query.returnBundle(Bundle.class).execute();
  }

  private static boolean isMatch(Bundle.BundleEntryComponent entry) {
    return entry.getSearch().getMode() == Bundle.SearchEntryMode.MATCH;
  }

  private static List<String> ids(Bundle bundle) {
    return bundle.getEntry().stream().filter(FhirHapi::isMatch).map(one -> one.getResource().getIdElement().getIdPart()).toList();
  }

  private Observation pulse(String word) {
    Observation made = new Observation().setStatus(Observation.ObservationStatus.FINAL);
    made.addIdentifier().setSystem(IDENTIFIERS).setValue(unique + "-" + word);
    made.addCategory().addCoding().setSystem("http://terminology.hl7.org/CodeSystem/observation-category").setCode("vital-signs");
    made.getCode().addCoding().setSystem(LOINC).setCode("8867-4");
    made.setSubject(new Reference("Patient/" + patient));
    made.setEffective(new org.hl7.fhir.r4.model.DateTimeType("2026-03-01T08:00:00Z"));
    made.setValue(new Quantity().setValue(72).setUnit("beats/minute").setSystem("http://unitsofmeasure.org").setCode("/min"));
    return made;
  }

  private IdType made(String word) {
    MethodOutcome outcome = client.create().resource(pulse(word)).execute();
    holds(Boolean.TRUE.equals(outcome.getCreated()), outcome.getId());
    return (IdType) outcome.getId();
  }

  private static <E extends BaseServerResponseException> E refused(Class<E> kind, Runnable call) {
    try {
      call.run();
    } catch (BaseServerResponseException error) {
      if (kind.isInstance(error)) {
        return kind.cast(error);
      }
      throw error;
    }
    throw new AssertionError("it was not refused as " + kind.getSimpleName());
  }

  private static void same(Object wanted, Object found) {
    holds(Objects.equals(wanted, found), "wanted " + wanted + ", found " + found);
  }

  private static void holds(boolean holds, Object otherwise) {
    if (!holds) {
      throw new AssertionError(otherwise);
    }
  }
}
