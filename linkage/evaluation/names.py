"""
Names for simulated people: written by hand and put together from syllables for this project.

Nothing is copied from a list of names. Orders and shares are plain estimates of how names are
spread in the United States: few names cover many people, fashions pass, and surnames have a
long tail. They are good enough to make collisions, twins and nicknames; they are no statistic.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import numpy.typing as npt

Names = npt.NDArray[np.object_]
Floats = npt.NDArray[np.float64]

ERAS = (1930, 1950, 1970, 1990, 2010)
"""Years of birth that the first names below belong to; between them fashions are mixed."""

_FEMALE = (
    """Mary Betty Barbara Shirley Dorothy Patricia Joan Margaret Helen Nancy Virginia Ruth Jean
    Doris Frances Martha Dolores Marilyn Alice Norma Evelyn Lois Beverly Marie Joyce Phyllis Anna
    Rose Donna Carol Elizabeth Mildred Marjorie Elaine Gloria Eleanor Irene Florence Louise June
    Bernice Josephine Ann Lillian Grace Janet Edna Gladys Elsie Catherine Peggy Geraldine Lorraine
    Wanda Rita Delores Audrey Ethel Esther Thelma Pauline Anne Bonnie Hazel Sally Arlene Juanita
    Clara Eileen Maxine Lucille Emma Vivian Ida Jacqueline Bertha Katherine Edith Maria Sylvia
    Carmen Opal Stella Minnie Ramona Naomi Yvonne Charlotte Billie Dora Velma Viola""",
    """Linda Mary Patricia Barbara Susan Nancy Deborah Sandra Carol Kathleen Sharon Karen Donna
    Brenda Margaret Diane Pamela Janet Shirley Carolyn Judith Janice Cynthia Elizabeth Judy Betty
    Joyce Christine Cheryl Gloria Beverly Martha Bonnie Peggy Dorothy Catherine Marilyn Rebecca
    Ann Kathy Jane Jean Joan Connie Gail Rose Diana Katherine Joanne Virginia Ruth Wanda Jo Ellen
    Sheila Rita Paula Phyllis Vicki Elaine Jacqueline Laura Alice Sally Theresa Marsha Glenda Helen
    Maria Debra Victoria Ruby Rosemary Sue Charlotte Suzanne Marcia Lois Darlene Eileen Anita
    Lynn Roberta Constance Yvonne Maureen Juanita Loretta Dolores Sylvia Yolanda Rosa""",
    """Jennifer Lisa Kimberly Michelle Amy Angela Melissa Tammy Mary Tracy Julie Karen Laura
    Christine Susan Dawn Kelly Elizabeth Patricia Lori Cynthia Pamela Teresa Deborah Stephanie
    Rebecca Maria Sandra Heather Andrea Tina Denise Wendy Lynn Rhonda Sharon Nicole Stacy Jill
    Donna Barbara Linda Robin Shannon Christina Debra Paula Monica Kathleen Michele Brenda Nancy
    Dana Rachel Cheryl Carla Tonya Jacqueline Diane Gina Leslie Sheila April Kristin Heidi Amanda
    Carol Regina Theresa Katherine Renee Sarah Tanya Yolanda Stacey Margaret Suzanne Melanie Jodi
    Veronica Sherry Kristen Beth Anita Kim Tara Jessica Danielle Catherine Sonya Ana Leticia
    Felicia Latonya Rosa""",
    """Jessica Ashley Amanda Sarah Brittany Jennifer Samantha Stephanie Emily Elizabeth Megan
    Nicole Lauren Kayla Rachel Danielle Amber Courtney Rebecca Chelsea Tiffany Heather Michelle
    Christina Melissa Kelsey Victoria Hannah Kimberly Laura Alexandra Katherine Alyssa Crystal
    Kathryn Taylor Andrea Jasmine Erica Erin Anna Jamie Allison Kristen Maria Shelby Jordan Mary
    Lindsey Vanessa Morgan Angela Cassandra Sara Alexis Caitlin Alicia Katie Olivia Natalie Emma
    Haley Brianna Bethany Molly Gabrielle Jacqueline Monica Kristina Abigail Destiny Diana Holly
    Whitney Miranda Paige Ariel Cynthia Mallory Bianca Leah Karina Veronica Daisy Kendra Ebony
    Claudia Marissa Latoya Adriana Tasha Meghan Guadalupe""",
    """Isabella Sophia Emma Olivia Ava Emily Abigail Madison Chloe Mia Addison Elizabeth Ella
    Natalie Samantha Alexis Lily Grace Hailey Alyssa Lillian Hannah Avery Leah Nevaeh Sofia Ashley
    Anna Brianna Sarah Zoe Victoria Gabriella Brooklyn Kaylee Taylor Layla Allison Evelyn Riley
    Amelia Khloe Makayla Aubrey Charlotte Savannah Zoey Bella Kayla Alexa Peyton Audrey Claire
    Arianna Julia Aaliyah Kylie Lauren Sophie Sydney Camila Jasmine Morgan Alexandra Jocelyn
    Maya Kimberly Mackenzie Katherine Gianna Ariana Destiny Faith Lucy Naomi Ruby Mya Trinity
    Valeria Stella Andrea Genesis Valentina Ximena Fatima Aisha Priya Mei Eva Jade Hazel Nora
    Penelope Melanie Daniela""",
)

_MALE = (
    """Robert James John William Richard Charles Donald George Thomas Joseph David Edward Ronald
    Paul Kenneth Frank Raymond Jack Harold Billy Gerald Walter Jerry Joe Eugene Henry Bobby Arthur
    Carl Ralph Albert Willie Larry Roger Lawrence Wayne Earl Fred Roy Norman Daniel Howard Jimmy
    Harry Louis Ernest Francis Johnny Clarence Marvin Stanley Leonard Melvin Herbert Russell Leroy
    Michael Alfred Peter Bernard Gene Samuel Dale Leo Lloyd Don Theodore Clifford Dean Vernon
    Glenn Warren Lewis Alvin Philip Gordon Lee Edwin Chester Floyd Milton Leon Clyde Herman Lester
    Cecil Allen Jesse Manuel Elmer Andrew Homer Jose Oscar Benjamin Anthony Everett Luis Virgil""",
    """James Robert John Michael David William Richard Thomas Charles Gary Larry Ronald Joseph
    Donald Kenneth Steven Dennis Paul Stephen George Daniel Edward Mark Jerry Gregory Bruce Roger
    Douglas Frank Terry Raymond Timothy Lawrence Gerald Wayne Anthony Peter Patrick Danny Walter
    Alan Willie Jeffrey Carl Harold Arthur Henry Johnny Roy Ralph Philip Glenn Joe Jack Jimmy
    Craig Randall Russell Stanley Phillip Howard Bobby Keith Eugene Louis Allen Albert Randy Barry
    Leonard Ernest Scott Dale Rodney Steve Fred Francis Eric Ricky Samuel Dan Victor Tommy Kevin
    Martin Jose Leroy Juan Vincent Melvin Alfred Norman Curtis Marvin Earl Clarence Luis Andrew
    Frederick Carlos Manuel Ray""",
    """Michael David James John Robert William Christopher Brian Mark Richard Jeffrey Scott Jason
    Kevin Steven Thomas Eric Timothy Joseph Charles Daniel Matthew Anthony Paul Kenneth Gregory
    Ronald Stephen Edward Todd Patrick Donald Sean Andrew Keith Gary Chad Douglas George Bryan
    Craig Jose Jonathan Shawn Peter Terry Raymond Joshua Aaron Troy Larry Frank Carlos Randy
    Jerry Brett Ryan Dennis Rodney Phillip Brent Danny Travis Jeffery Tony Roger Adam Derek
    Juan Marcus Joel Carl Russell Billy Johnny Jeremy Justin Darren Wayne Corey Ricky Antonio
    Jimmy Victor Allen Samuel Philip Vincent Dwayne Kelly Micheal Bobby Luis Jamie Tyrone Curtis
    Benjamin Nathan Dale Alan Jesus Hector Mario Gerald""",
    """Michael Christopher Matthew Joshua Daniel David Andrew James Justin Joseph Ryan John Robert
    Nicholas Anthony William Jonathan Kyle Brandon Jacob Tyler Zachary Kevin Eric Steven Thomas
    Brian Alexander Jordan Timothy Cody Adam Benjamin Aaron Richard Patrick Sean Charles Stephen
    Jeremy Jose Travis Jeffrey Nathan Samuel Mark Jason Jesse Paul Dustin Gregory Kenneth Scott
    Derek Austin Corey Bryan Ethan Alex Christian Juan Cameron Jared Taylor Bradley Luis Cory
    Edward Shawn Marcus Ian Antonio Devin Carlos Shane Trevor Garrett Phillip Dylan Keith Evan
    Victor Peter Dakota Blake Chad Brett Logan Connor Miguel Angel Luke Gabriel Spencer Seth
    Caleb Adrian Lucas Jorge Jesus Oscar Tanner Malcolm Darius""",
    """Jacob Ethan Michael Jayden William Alexander Noah Daniel Aiden Anthony Joshua Mason
    Christopher Andrew David Matthew Logan Elijah James Joseph Gabriel Benjamin Ryan Samuel Jackson
    John Nathan Jonathan Christian Liam Dylan Landon Caleb Tyler Lucas Evan Gavin Nicholas Isaac
    Brayden Luke Angel Brandon Jack Isaiah Jordan Owen Carter Connor Justin Jose Jeremiah Julian
    Robert Aaron Adrian Wyatt Kevin Hunter Cameron Zachary Thomas Charles Austin Eli Chase Henry
    Sebastian Jason Levi Xavier Ian Colton Dominic Juan Cooper Josiah Luis Ayden Carson Adam
    Nathaniel Brody Tristan Diego Parker Blake Oliver Cole Carlos Jaden Jesus Alex Aidan Eric
    Hayden Bryan Max Jaxon Brian Mateo Omar Ravi Wei Muhammad""",
)

NICKNAMES: dict[str, tuple[str, ...]] = {
    formal: tuple(short.split())
    for formal, short in (
        pair.split(":")
        for pair in """Abigail:Abby Gail|Alexander:Alex Al Sandy|Alexandra:Alex Sandra
    |Alfred:Al Fred
    |Allison:Allie|Amanda:Mandy|Andrea:Andi|Andrew:Andy Drew|Angela:Angie|Anthony:Tony|Antonio:Tony
    |Arthur:Art|Barbara:Barb Bobbie|Benjamin:Ben Benny|Bernard:Bernie|Beverly:Bev|Bradley:Brad
    |Brittany:Britt|Cameron:Cam|Carolyn:Carol|Cassandra:Cassie|Catherine:Cathy Kate Cat
    |Charles:Charlie Chuck|Charlotte:Lottie|Christina:Chris Tina|Christine:Chris Tina Chrissy
    |Christopher:Chris|Clarence:Clare|Clifford:Cliff|Constance:Connie|Crystal:Crys
    |Cynthia:Cindy|Daniel:Dan Danny|Danielle:Dani|David:Dave|Deborah:Debbie Deb Debby
    |Debra:Debbie Deb
    |Dennis:Denny|Diana:Di|Dolores:Lola|Donald:Don Donnie|Dorothy:Dot Dottie|Douglas:Doug
    |Edward:Ed Eddie Ted|Edwin:Ed|Eleanor:Ellie Nell|Elizabeth:Liz Beth Betsy Lizzie|Ernest:Ernie
    |Esther:Essie|Eugene:Gene|Evelyn:Evie|Florence:Flo|Frances:Fran|Francis:Frank|Frederick:Fred
    |Gabriel:Gabe|Gabrielle:Gabby|George:Georgie|Gerald:Jerry|Geraldine:Gerry|Gregory:Greg
    |Guadalupe:Lupe|Harold:Harry Hal|Henry:Hank|Herbert:Herb|Howard:Howie|Isabella:Bella Izzy
    |Jacob:Jake|Jacqueline:Jackie|James:Jim Jimmy Jamie|Janet:Jan|Janice:Jan|Jeffrey:Jeff
    |Jennifer:Jen Jenny|Jeremiah:Jerry|Jesse:Jess|Jessica:Jess Jessie|John:Jack Johnny
    |Jonathan:Jon John|Jose:Pepe|Joseph:Joe Joey|Josephine:Jo Josie|Joshua:Josh|Judith:Judy
    |Katherine:Kathy Kate Katie|Kathleen:Kathy Kate|Kathryn:Kathy Katie|Kenneth:Ken Kenny
    |Kimberly:Kim|Kristen:Kris|Kristina:Kris Tina|Lawrence:Larry|Leonard:Len Lenny|Leticia:Letty
    |Lillian:Lilly|Louis:Lou|Lucille:Lucy|Madison:Maddie|Manuel:Manny|Margaret:Peggy Maggie Meg
    |Marilyn:Mary|Marjorie:Marge|Martha:Marty|Matthew:Matt|Megan:Meg|Melissa:Missy Mel|Melvin:Mel
    |Michael:Mike Mick|Michelle:Shelly|Miguel:Mike|Mildred:Millie|Nancy:Nan|Natalie:Nat
    |Nathan:Nate|Nathaniel:Nate Nat|Nicholas:Nick|Nicole:Nicki|Norman:Norm|Olivia:Liv|Pamela:Pam
    |Patricia:Pat Patty Trish|Patrick:Pat|Peter:Pete|Philip:Phil|Phillip:Phil|Priscilla:Cilla
    |Rachel:Rae|Raymond:Ray|Rebecca:Becky|Richard:Rick Dick Rich|Robert:Bob Rob Bobby|Roberta:Bobbie
    |Rodney:Rod|Ronald:Ron Ronnie|Russell:Russ|Samantha:Sam|Samuel:Sam|Sandra:Sandy
    |Sarah:Sally Sadie
    |Sebastian:Seb|Shirley:Shirl|Sophia:Sophie|Stanley:Stan|Stephanie:Steph|Stephen:Steve
    |Steven:Steve|Susan:Sue Suzy|Suzanne:Sue|Tamara:Tammy|Teresa:Terry Tess|Theodore:Ted Theo
    |Theresa:Terry Tess|Thomas:Tom Tommy|Timothy:Tim|Tyrone:Ty|Valentina:Val|Veronica:Ronnie
    |Victor:Vic|Victoria:Vicky Tori|Vincent:Vince|Virginia:Ginny|Walter:Walt|William:Bill Will Billy
    |Yolanda:Yoli|Zachary:Zach""".replace("\n", "").split("|")
        for pair in [pair.strip()]
    )
}
"""Short forms that a registration desk writes down instead of the name."""

STAND_INS = (
    "Unknown",
    "Lady",
    "Wife",
    "Husband",
    "Miss",
    "Mister",
    "Baby Boy",
    "Baby Girl",
    "None",
)
"""What stands in a name field where nobody knew the name."""

_COMMON_SURNAMES = """Smith Johnson Williams Brown Jones Garcia Miller Davis Rodriguez Martinez
    Hernandez Lopez Gonzalez Wilson Anderson Thomas Taylor Moore Jackson Martin Lee Perez Thompson
    White Harris Sanchez Clark Ramirez Lewis Robinson Walker Young Allen King Wright Scott Torres
    Nguyen Hill Flores Green Adams Nelson Baker Hall Rivera Campbell Mitchell Carter Roberts Gomez
    Phillips Evans Turner Diaz Parker Cruz Edwards Collins Reyes Stewart Morris Morales Murphy Cook
    Rogers Gutierrez Ortiz Morgan Cooper Peterson Bailey Reed Kelly Howard Ramos Kim Cox Ward
    Richardson Watson Brooks Chavez Wood James Bennett Gray Mendoza Ruiz Hughes Price Alvarez
    Castillo Sanders Patel Myers Long Ross Foster Jimenez Powell Jenkins Perry Russell Sullivan
    Bell Coleman Butler Henderson Barnes Fisher Vasquez Simmons Romero Jordan Patterson Alexander
    Hamilton Graham Reynolds Griffin Wallace Moreno West Cole Hayes Bryant Herrera Gibson Ellis
    Tran Medina Aguilar Stevens Murray Ford Castro Marshall Owens Harrison Fernandez Wells Kennedy
    Woods Vargas Henry Chen Freeman Webb Tucker Guzman Burns Crawford Olson Simpson Porter Hunter
    Gordon Mendez Silva Shaw Snyder Mason Dixon Munoz Hunt Hicks Holmes Palmer Wagner Black
    Robertson Boyd Rose Stone Salazar Fox Warren Mills Meyer Rice Schmidt Garza Daniels Ferguson
    Nichols Stephens Soto Weaver Ryan Gardner Payne Grant Dunn Kelley Spencer Hawkins Arnold
    Pierce Hansen Peters Santos Hart Bradley Knight Elliott Cunningham Duncan Armstrong Hudson
    Carroll Lane Riley Andrews Alvarado Ray Delgado Berry Perkins Hoffman Johnston Matthews Pena
    Richards Contreras Willis Carpenter Lawrence Sandoval Guerrero George Chapman Rios Estrada
    Ortega Watkins Greene Nunez Wheeler Valdez Harper Burke Larson Santiago Maldonado Morrison
    Franklin Carlson Austin Dominguez Carr Lawson Jacobs Obrien Lynch Singh Vega Bishop Montgomery
    Oliver Jensen Harvey Williamson Gilbert Dean Sims Espinoza Howell Li Wong Reid Hanson Le
    McCoy Garrett Burton Fuller Wang Weber Welch Rojas Lucas Marquez Fields Park Yang Little Banks
    Padilla Day Walsh Bowman Schultz Luna Fowler Mejia""".split()

# Syllables of English, Scottish, Spanish, German, Slavic and South Asian kind. A pairing need not
# exist; it must only look and sound like a surname, so that typing errors hit it as they hit one.
_HEADS = """Ash Black Brad Bran Bur Cal Carl Chat Clay Cran Craw Dal Den Drum Dun Eas Ed Elling
    Fair Far Fen Fors Gar Glen Gran Green Hal Ham Har Hart Hat Hazel Hen Hol Hunt Ing Kel Ken Kings
    Lang Led Lin Lock Lyn Mar Mel Mid Mil Mor New Nor Oak Old Or Pem Pres Rad Ray Red Rock Ros
    Ruther
    San Sel Shel Sher Stan Staf Stock Sut Thorn Thur Tor Under Wal Ware Wes Whit Win Wood Wor
    York""".split()
_TAILS = """bank beck berg berry bourne bridge brook burn bury by cliff combe cote cott croft dale
    den don er field ford fort gate grave ham hill hurst ing land ley low man mere mont more ness
    ridge scott shaw son stead ster stone strom ton tree vale ville wall water way well wick win
    wood worth""".split()
_MIDDLES = "el en er ing".split()
_SPANISH_HEADS = """
    Alm Arr Barr Bel Cab Cal Card Cerv Cord Esc Fuent Gal Lar Mor Ner Oroz Quint Sal Sol
    Tam Val Zam
""".split()
_SPANISH_TAILS = """
    ado al ales andez ano ante aras arez eda ega ejo ello era ero ida illo ina ino ola on
    osa ueta
""".split()
_SLAVIC_HEADS = """
    Bor Dob Dub Gor Grab Jan Kal Kam Kov Koz Krup Lev Mal Nov Ost Pav Pol Rad Sok Stan Tom
    Vas Volk Zab
""".split()
_SLAVIC_TAILS = """
    ac acek anek chuk enko evic ewicz icki iec insky ko ov ova owicz owski sky uk ynski
""".split()
_ASIAN_HEADS = """
    An Bal Chandra Dev Gan Gopal Hari Jay Kri Lak Mad Mani Nar Par Raj Ram Ravi Sri Sub
    Ven
""".split()
_ASIAN_TAILS = """
    akar an appa deep dran esh gar ishnan kar kumar mani moorthy nathan pati raman singh
    swamy vel
""".split()
_PREFIXES = ("Mc", "O'", "Fitz", "Van ", "De La ", "St. ")


@cache
def first_names(male: bool) -> tuple[Names, Floats]:
    """
    Return K first names of one sex, str[K], and their shares in each era, float64[len(ERAS), K].

    Within an era, shares fall as 1 / (rank + 5): the first name is about twice the tenth.
    """
    eras = [text.split() for text in (_MALE if male else _FEMALE)]
    names = list(dict.fromkeys(name for era in eras for name in era))
    place = {name: i for i, name in enumerate(names)}
    shares = np.zeros((len(eras), len(names)))
    for row, era in enumerate(eras):
        for rank, name in enumerate(era):
            shares[row, place[name]] += 1 / (rank + 5)
    return np.array(names, dtype=object), shares / shares.sum(axis=1, keepdims=True)


@cache
def surnames() -> tuple[Names, Floats]:
    """
    Return K surnames, str[K], and their shares, float64[K], commonest first.

    Shares fall as (rank + 16) ** -0.88 over about 23,000 names: the first hundred cover
    about a fifth of the people, as in life; the tail is shorter than life's.
    """
    built = [
        head + tail
        for heads, tails in (
            (_HEADS, _TAILS),
            (_SPANISH_HEADS, _SPANISH_TAILS),
            (_SLAVIC_HEADS, _SLAVIC_TAILS),
            (_ASIAN_HEADS, _ASIAN_TAILS),
        )
        for head, tail in product(heads, tails)
    ]
    built += [h + m + t for h, m, t in product(_HEADS, _MIDDLES, _TAILS)]
    built += [
        p + name for p, name in product(_PREFIXES, [*_COMMON_SURNAMES[100:160], *_HEADS[:40]])
    ]
    # A fixed shuffle: neither kind nor alphabet may say how common a name is.
    order = np.random.default_rng(1790).permutation(len(built))
    names = list(dict.fromkeys([*_COMMON_SURNAMES, *(built[i] for i in order)]))
    weights = (np.arange(len(names)) + 16.0) ** -0.88
    return np.array(names, dtype=object), weights / weights.sum()


STREET_NAMES: Names = np.array(
    [
        *"""main oak maple cedar park pine elm washington lake hill walnut spring north ridge church
        willow mill sunset jackson cherry river lincoln meadow forest highland jefferson franklin
        valley chestnut spruce madison hickory dogwood poplar college union birch laurel prospect
        center state adams monroe grant court pleasant magnolia holly juniper liberty""".split(),
        *(f"{n}{'th' if n > 3 else ('st', 'nd', 'rd')[n - 1]}" for n in range(1, 21)),
        *(f"{n}th" for n in range(24, 124, 4)),
        *((head + tail).lower() for head, tail in product(_HEADS[::2], _TAILS[1::4])),
    ],
    dtype=object,
)
STREET_KINDS: Names = np.array(
    "st ave rd dr ln ct blvd way cir pl street avenue road drive ter pkwy".split(), dtype=object
)
