"""Arrays -> matplotlib figures."""

from vgg_nll.plots.classes import confusion_matrix as confusion_matrix
from vgg_nll.plots.classes import precision_recall as precision_recall
from vgg_nll.plots.coverage import accuracy_coverage as accuracy_coverage
from vgg_nll.plots.errors import most_confident_errors as most_confident_errors
from vgg_nll.plots.layout import WIDTH as WIDTH
from vgg_nll.plots.reliability import Diagram as Diagram
from vgg_nll.plots.reliability import reliability_diagram as reliability_diagram
from vgg_nll.plots.reliability import reliability_diagrams as reliability_diagrams
