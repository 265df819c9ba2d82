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

/// ICD-10 categories by their first characters, longest first.
pub(super) const SENSITIVE_ICD10: &[(&str, &str, Sensitivity)] = &[
    ("B20", "B24", Sensitivity::Hiv),
    ("Z21", "Z21", Sensitivity::Hiv),
    ("R75", "R75", Sensitivity::Hiv),
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
