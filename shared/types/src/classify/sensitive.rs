//! The codes that make a record sensitive.

use crate::labels::Sensitivity;

/// LOINC codes with their sensitivity. The displays are LOINC's.
pub(super) const SENSITIVE_LOINC: &[(&str, Sensitivity)] = &[
    ("7917-8", Sensitivity::Hiv),                  // HIV 1 Ab [Presence] in Serum
    ("7918-6", Sensitivity::Hiv),                  // HIV 1+2 Ab [Presence] in Serum
    ("20447-9", Sensitivity::Hiv),                 // HIV 1 RNA [#/volume] (viral load)
    ("55277-8", Sensitivity::Hiv),                 // HIV status
    ("25836-8", Sensitivity::Hiv),                 // HIV 1 RNA [#/volume]
    ("29541-0", Sensitivity::Hiv),                 // HIV 1 RNA [Log #/volume]
    ("56888-1", Sensitivity::Hiv),                 // HIV 1+2 Ab+HIV1 p24 Ag [Presence]
    ("75622-1", Sensitivity::Hiv),                 // HIV 1 and 2 tests
    ("44249-1", Sensitivity::Psychiatry),          // PHQ-9 panel
    ("44261-6", Sensitivity::Psychiatry),          // PHQ-9 total score
    ("55757-9", Sensitivity::Psychiatry),          // PHQ-2 panel
    ("55758-7", Sensitivity::Psychiatry),          // PHQ-2 total score
    ("69737-5", Sensitivity::Psychiatry),          // GAD-7 panel
    ("70274-6", Sensitivity::Psychiatry),          // GAD-7 total score
    ("75626-2", Sensitivity::SubstanceUse),        // AUDIT-C total score
    ("72109-2", Sensitivity::SubstanceUse),        // AUDIT-C panel
    ("82667-7", Sensitivity::SubstanceUse),        // DAST-10 total score
    ("82666-9", Sensitivity::SubstanceUse),        // DAST-10 panel
    ("65750-2", Sensitivity::SubstanceUse),        // Drugs of abuse 5 panel, urine
    ("20507-0", Sensitivity::SexuallyTransmitted), // Reagin Ab by RPR
    ("21613-5", Sensitivity::SexuallyTransmitted), // Chlamydia trachomatis DNA
    ("24111-7", Sensitivity::SexuallyTransmitted), // Neisseria gonorrhoeae DNA
    ("51969-4", Sensitivity::Genetic),             // Genetic analysis report
    ("53037-8", Sensitivity::Genetic),             // Genetic variation clinical significance
    ("69548-6", Sensitivity::Genetic),             // Genetic variant assessment
    ("81247-9", Sensitivity::Genetic),             // Genetic variant reporting panel
    ("76499-3", Sensitivity::Violence),            // HARK panel
    ("76504-0", Sensitivity::Violence),            // HARK total score
    ("28245-9", Sensitivity::Violence),            // Abuse status
];

/// SNOMED CT concepts with their sensitivity.
pub(super) const SENSITIVE_SNOMED: &[(&str, Sensitivity)] = &[
    ("19030005", Sensitivity::Hiv),                   // Human immunodeficiency virus
    ("62479008", Sensitivity::Hiv),                   // AIDS
    ("86406008", Sensitivity::Hiv),                   // HIV infection
    ("91947003", Sensitivity::Hiv),                   // Asymptomatic HIV infection
    ("165816005", Sensitivity::Hiv),                  // HIV positive
    ("13746004", Sensitivity::Psychiatry),            // Bipolar disorder
    ("21897009", Sensitivity::Psychiatry),            // Generalized anxiety disorder
    ("35489007", Sensitivity::Psychiatry),            // Depressive disorder
    ("36923009", Sensitivity::Psychiatry),            // Major depression, single episode
    ("47505003", Sensitivity::Psychiatry),            // Post-traumatic stress disorder
    ("58214004", Sensitivity::Psychiatry),            // Schizophrenia
    ("66344007", Sensitivity::Psychiatry),            // Recurrent major depression
    ("69322001", Sensitivity::Psychiatry),            // Psychotic disorder
    ("72366004", Sensitivity::Psychiatry),            // Eating disorder
    ("74732009", Sensitivity::Psychiatry),            // Mental disorder
    ("80583007", Sensitivity::Psychiatry),            // Severe anxiety (panic)
    ("191736004", Sensitivity::Psychiatry),           // Obsessive-compulsive disorder
    ("197480006", Sensitivity::Psychiatry),           // Anxiety disorder
    ("231504006", Sensitivity::Psychiatry),           // Mixed anxiety and depressive disorder
    ("370143000", Sensitivity::Psychiatry),           // Major depressive disorder
    ("371631005", Sensitivity::Psychiatry),           // Panic disorder
    ("6525002", Sensitivity::SubstanceUse),           // Dependent drug abuse
    ("7200002", Sensitivity::SubstanceUse),           // Alcoholism
    ("66590003", Sensitivity::SubstanceUse),          // Alcohol dependence
    ("75544000", Sensitivity::SubstanceUse),          // Opioid dependence
    ("191816009", Sensitivity::SubstanceUse),         // Drug dependence
    ("10939881000119105", Sensitivity::SubstanceUse), // Unhealthy alcohol drinking behaviour
    ("56876005", Sensitivity::SubstanceUse),          // Drug rehabilitation and detoxification
    ("60112009", Sensitivity::SubstanceUse),          // Drug addiction counseling
    ("61480009", Sensitivity::SubstanceUse),          // Drug detoxification
    ("266707007", Sensitivity::SubstanceUse),         // Drug addiction therapy
    ("5602001", Sensitivity::SubstanceAbuse),         // Opioid abuse
    ("15167005", Sensitivity::SubstanceAbuse),        // Alcohol abuse
    ("26416006", Sensitivity::SubstanceAbuse),        // Drug abuse
    ("55680006", Sensitivity::SubstanceAbuse),        // Drug overdose
    ("361055000", Sensitivity::SubstanceAbuse),       // Misuses drugs
    ("8098009", Sensitivity::SexuallyTransmitted),    // Sexually transmitted infectious disease
    ("15628003", Sensitivity::SexuallyTransmitted),   // Gonorrhea
    ("33839006", Sensitivity::SexuallyTransmitted),   // Genital herpes simplex
    ("76272004", Sensitivity::SexuallyTransmitted),   // Syphilis
    ("240589008", Sensitivity::SexuallyTransmitted),  // Chlamydia trachomatis infection
    ("165829005", Sensitivity::SexuallyTransmitted),  // Gonorrhea infection test
    ("269828009", Sensitivity::SexuallyTransmitted),  // Syphilis infection test
    ("310861008", Sensitivity::SexuallyTransmitted),  // Chlamydia antigen test
    ("41040004", Sensitivity::Genetic),               // Complete trisomy 21 syndrome
    ("58756001", Sensitivity::Genetic),               // Huntington's chorea
    ("127040003", Sensitivity::Genetic),              // Sickle cell-haemoglobin SS disease
    ("190905008", Sensitivity::Genetic),              // Cystic fibrosis
    ("412734009", Sensitivity::Genetic),              // BRCA1 gene mutation positive
    ("412738007", Sensitivity::Genetic),              // BRCA2 gene mutation positive
    ("248110007", Sensitivity::Violence),             // Sexual assault
    ("397940009", Sensitivity::Violence),             // Victim of child abuse
    ("706893006", Sensitivity::Violence),             // Victim of intimate partner abuse
];

/// Ingredients of RxNorm that are given for one thing only.
pub(super) const SENSITIVE_RXNORM: &[(&str, Sensitivity)] = &[
    ("53654", Sensitivity::Hiv),         // nevirapine
    ("190521", Sensitivity::Hiv),        // abacavir
    ("195085", Sensitivity::Hiv),        // efavirenz
    ("343047", Sensitivity::Hiv),        // atazanavir
    ("1433868", Sensitivity::Hiv),       // dolutegravir
    ("7243", Sensitivity::SubstanceUse), // naltrexone
    ("2626", Sensitivity::Psychiatry),   // clozapine
];

/// HL7's labels, and the codes below each of them in its hierarchy. Under v2 table 0177 `AID` is AIDS.
pub(super) const SENSITIVE_LABELS: &[(&str, Sensitivity)] = &[
    ("ETH", Sensitivity::SubstanceAbuse),
    ("PSY", Sensitivity::Psychiatry),
    ("PSYTHPN", Sensitivity::Psychiatry),
    ("HIV", Sensitivity::Hiv),
    ("AID", Sensitivity::Hiv),
    ("STD", Sensitivity::SexuallyTransmitted),
    ("SUD", Sensitivity::SubstanceUse),
    ("ETHUD", Sensitivity::SubstanceUse),
    ("OPIOIDUD", Sensitivity::SubstanceUse),
    ("GDIS", Sensitivity::Genetic),
    ("SICKLE", Sensitivity::Genetic),
    ("SDV", Sensitivity::Violence),
    ("R", Sensitivity::Restricted),
    ("V", Sensitivity::Restricted),
];

/// Confidentiality that is no more than usual: unrestricted (in v2: usual), low, moderate, normal.
pub(super) const HARMLESS_LABELS: [&str; 4] = ["U", "L", "M", "N"];

/// ICD-9(-CM) by the first characters, without dots. Where lines overlap, the first counts. Tobacco (305.1) is left out.
pub(super) const SENSITIVE_ICD9: &[(&str, &str, Sensitivity)] = &[
    ("042", "044", Sensitivity::Hiv),
    ("V08", "V08", Sensitivity::Hiv),
    ("07953", "07953", Sensitivity::Hiv),
    ("79571", "79571", Sensitivity::Hiv),
    ("090", "099", Sensitivity::SexuallyTransmitted),
    ("291", "292", Sensitivity::SubstanceUse),
    ("303", "304", Sensitivity::SubstanceUse),
    ("3050", "3050", Sensitivity::SubstanceAbuse),
    ("3052", "3059", Sensitivity::SubstanceAbuse),
    ("9650", "9650", Sensitivity::SubstanceAbuse),
    ("295", "302", Sensitivity::Psychiatry),
    ("306", "309", Sensitivity::Psychiatry),
    ("311", "313", Sensitivity::Psychiatry),
    ("2770", "2770", Sensitivity::Genetic),
    ("2826", "2826", Sensitivity::Genetic),
    ("3334", "3334", Sensitivity::Genetic),
    ("758", "758", Sensitivity::Genetic),
    ("V84", "V84", Sensitivity::Genetic),
    ("9955", "9955", Sensitivity::Violence),
    ("9958", "9958", Sensitivity::Violence),
    ("E967", "E967", Sensitivity::Violence),
    ("V611", "V611", Sensitivity::Violence),
];

/// ICD-10 by the first characters, without dots. Tobacco (F17) is left out.
pub(super) const SENSITIVE_ICD10: &[(&str, &str, Sensitivity)] = &[
    ("B20", "B24", Sensitivity::Hiv),
    ("Z21", "Z21", Sensitivity::Hiv),
    ("R75", "R75", Sensitivity::Hiv),
    ("B9735", "B9735", Sensitivity::Hiv),
    ("O987", "O987", Sensitivity::Hiv),
    ("Z717", "Z717", Sensitivity::Hiv),
    ("F10", "F16", Sensitivity::SubstanceUse),
    ("F18", "F19", Sensitivity::SubstanceUse),
    ("T40", "T40", Sensitivity::SubstanceAbuse),
    ("F20", "F69", Sensitivity::Psychiatry),
    ("F90", "F99", Sensitivity::Psychiatry),
    ("A50", "A64", Sensitivity::SexuallyTransmitted),
    ("D57", "D57", Sensitivity::Genetic),
    ("E84", "E84", Sensitivity::Genetic),
    ("G10", "G10", Sensitivity::Genetic),
    ("Q90", "Q99", Sensitivity::Genetic),
    ("Z15", "Z15", Sensitivity::Genetic),
    ("T74", "T74", Sensitivity::Violence),
    ("T76", "T76", Sensitivity::Violence),
    ("Y07", "Y07", Sensitivity::Violence),
    ("Z69", "Z69", Sensitivity::Violence),
];
