// An independent judge, HAPI's instance validator: is each file of a folder (FHIR R4 in JSON) valid? It asks nobody: definitions and
// code systems come from its own jar. In: the folder; out: a line for each error: file, place, message, with tabs between, and at the
// end how many files it judged. What it does not judge: codes of systems that it does not have (LOINC, SNOMED CT, RxNorm …), profiles
// of guides other than R4 itself, extensions that R4 does not define; and it says no warnings.

import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import ca.uhn.fhir.context.support.IValidationSupport.IssueSeverity;
import ca.uhn.fhir.validation.FhirValidator;
import ca.uhn.fhir.validation.ResultSeverityEnum;
import ca.uhn.fhir.validation.SingleValidationMessage;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.hl7.fhir.common.hapi.validation.support.CommonCodeSystemsTerminologyService;
import org.hl7.fhir.common.hapi.validation.support.InMemoryTerminologyServerValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.UnknownCodeSystemWarningValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.ValidationSupportChain;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;

public final class Judge {
  public static void main(String[] arguments) throws IOException {
    FhirValidator validator = validator();
    List<Path> files;
    try (Stream<Path> found = Files.list(Path.of(arguments[0]))) {
      files = found.filter(file -> file.toString().endsWith(".json")).sorted().toList();
    }
    for (Path file : files) {
      for (SingleValidationMessage message : validator.validateWithResult(Files.readString(file)).getMessages()) {
        if (message.getSeverity().compareTo(ResultSeverityEnum.ERROR) >= 0) {
          System.out.println(file.getFileName() + "\t" + message.getLocationString() + "\t" + said(message));
        }
      }
    }
    System.out.println("judged " + files.size());
  }

  private static String said(SingleValidationMessage message) {
    return message.getMessage().replaceAll("\\s+", " ") + " [" + message.getMessageId() + "]";
  }

  private static FhirValidator validator() {
    FhirContext context = FhirContext.forR4();
    // What a terminology server would be asked.
    UnknownCodeSystemWarningValidationSupport unknown = new UnknownCodeSystemWarningValidationSupport(context);
    unknown.setNonExistentCodeSystemSeverity(IssueSeverity.WARNING);
    ValidationSupportChain support = new ValidationSupportChain(
        new DefaultProfileValidationSupport(context),
        new InMemoryTerminologyServerValidationSupport(context),
        new CommonCodeSystemsTerminologyService(context),
        unknown);
    FhirInstanceValidator instances = new FhirInstanceValidator(support);
    instances.setAnyExtensionsAllowed(true);
    // Resources as they were received may name profiles of other guides, such as US Core.
    instances.setErrorForUnknownProfiles(false);
    return context.newValidator().registerValidatorModule(instances);
  }
}
